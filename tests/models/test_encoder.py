"""Densities of an encoder's features, against models without an encoder on features computed beforehand."""

import collections
import functools

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers import Noting, change_config, randomize, weights_of

import tfp_hybrid as hy
from tfp_hybrid import uncertainty

layers = keras.layers
X = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 1)).astype("uint8")
Y = np.arange(24) % 3


def make_encoder(*more, shape=(4, 4, 1), seed=1):
    """Small, with all that behaves differently in training."""
    keras.utils.set_random_seed(seed)
    parts = [layers.Rescaling(1 / 255), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Dropout(0.5)]
    encoder = keras.Sequential([keras.Input(shape), *parts, layers.GlobalAveragePooling2D(), layers.Dense(3), *more])
    for weight in encoder.layers[2].weights:  # away from the identity
        weight.assign(weight + 0.5)
    return encoder


def small_flow():
    return hy.bijectors.FusedChain([hy.bijectors.ActNorm((3,)), hy.bijectors.AffineCoupling((3,))], (3,))


def hybrid(encoder=None, compile=True, flow=None, **kwargs):
    keras.utils.set_random_seed(0)
    flow = small_flow() if flow is None else flow
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(3), 0.1, encoder=encoder, **kwargs)
    randomize(model.density.trainable_weights)
    if compile:
        model.compile(keras.optimizers.Adam(1e-2))
    return model


def density(encoder=None):
    keras.utils.set_random_seed(0)
    model = hy.DensityModel(hy.flow_distribution(small_flow()), encoder=encoder)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def features(encoder, x=X):
    return encoder(tf.cast(x, tf.float32), training=False).numpy()


def data_set(*columns, size=8):
    return tf.data.Dataset.from_tensor_slices(columns).batch(size)


@pytest.fixture(scope="module")
def model():
    return hybrid(make_encoder())


@pytest.fixture(scope="module")
def plain():
    """The same without an encoder."""
    return hybrid()


ANSWERS = {
    "log_prob": lambda model, x: model.log_prob(x, batch_size=10),
    "predict": lambda model, x: model.predict(x, verbose=0),
    "call": lambda model, x: model(x),
    "call in training": lambda model, x: model.encode(x, training=True).log_prob,
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "predict_distribution": lambda model, x: model.predict_distribution(x)[1],
    "encode": lambda model, x: model.encode(x).z,
    "encode_batches": lambda model, x: np.concatenate([part.z for part in model.encode_batches(x, 10)]),
    "data set": lambda model, x: model.log_prob(data_set(x)),
    "predict of a data set": lambda model, x: model.predict(data_set(x), verbose=0),
    "evaluate": lambda model, x: model.evaluate(x, Y, verbose=0),
    "score": lambda model, x: uncertainty.NegativeLogProb().score(model, x),
    "energy": lambda model, x: uncertainty.Energy().score(model, x),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_raw_inputs_in(model, plain, name):
    """The answers are those about the features of a model without an encoder."""
    wanted = ANSWERS[name](plain, features(model.encoder))
    np.testing.assert_allclose(ANSWERS[name](model, X), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ANSWERS[name](model, X.astype("float32")), wanted, rtol=1e-4, atol=1e-5)


def test_encoding_holds_inputs_and_features(model):
    encoding = model.encode(X)
    np.testing.assert_array_equal(encoding.x, X)
    np.testing.assert_allclose(encoding.flow_input, features(model.encoder), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(hybrid().encode(features(model.encoder)).flow_input, features(model.encoder))


def test_gradients_flow_to_raw_inputs(model):
    x = tf.constant(X, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_prob = model.encode(x).log_prob
    gradient = tape.gradient(log_prob, x).numpy()
    step = np.zeros((4, 4, 1), "float32")
    step[1, 2] = 1.0
    difference = (model.log_prob(X[:1] + step) - model.log_prob(X[:1] - step)) / 2
    np.testing.assert_allclose(gradient[0, 1, 2, 0], difference[0], rtol=0.05, atol=1e-3)


CACHES = {"memory": lambda folder: "memory", "folder": lambda folder: folder / "cache", "none": lambda folder: None}
FORMS = {
    "arrays": lambda x, y: dict(x=x, y=y, batch_size=8, validation_data=(x, y), validation_batch_size=10),
    "data sets": lambda x, y: dict(x=data_set(x, y), validation_data=data_set(x, y, size=10)),
    "weighted": lambda x, y: dict(x=x, y=y, batch_size=8, sample_weight=np.arange(24.0), validation_split=0.25),
}


@functools.cache
def trained_on_features(form):
    """A model without an encoder, and its history."""
    model = hybrid()
    history = model.fit(**FORMS[form](features(make_encoder()), Y), epochs=2, shuffle=False, verbose=0).history
    return model, history


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("form", FORMS)
def test_trains_as_on_precomputed_features(cache, form, tmp_path):
    encoder = make_encoder()
    before = weights_of(encoder)
    model, options = hybrid(encoder), dict(epochs=2, shuffle=False, verbose=0)
    plain, wanted = trained_on_features(form)
    got = model.fit(**FORMS[form](X, Y), **options, cache=CACHES[cache](tmp_path)).history
    for name, values in wanted.items():
        np.testing.assert_allclose(got[name.replace("prob_x", "prob_features")], values, rtol=1e-4, atol=1e-5)
    for weight, other in zip(plain.trainable_weights, model.trainable_weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-3, atol=1e-4)
    for weight, value in zip(encoder.weights, before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_density_alone_trains_as_on_precomputed_features():
    encoder = make_encoder()
    options = dict(epochs=2, batch_size=8, shuffle=False, verbose=0)
    wanted = density().fit(features(encoder), **options).history["loss"]
    np.testing.assert_allclose(density(encoder).fit(X, **options).history["loss"], wanted, rtol=1e-4)
    model = density(encoder)
    losses = [float(model.train_on_batch(X[:8])[0]) for _ in range(2)]
    assert losses[1] < losses[0]


def test_frozen_encoder_is_not_trained():
    encoder = make_encoder()
    model = hybrid(encoder)
    mine = {id(weight) for weight in encoder.variables}
    assert encoder.trainable and len(encoder.trainable_weights) == 6  # as its owner left it
    assert not any(id(weight) in mine for weight in model.trainable_weights + model.trainable_variables)
    assert mine - {id(seed) for seed in encoder.variables} <= {id(weight) for weight in model.non_trainable_weights}
    assert len(model.trainable_weights) + len(model.non_trainable_weights) == len(model.weights)
    assert len(model.trainable_variables) + len(model.non_trainable_variables) == len(model.variables)


@pytest.mark.parametrize(("cache", "runs"), [("memory", 24 + 24), ("folder", 24 + 24), ("none", 3 * (24 + 24))])
def test_encoder_runs_once_for_each_row(cache, runs, tmp_path):
    """Without a cache in each epoch, and before to check the first rows."""
    rows = collections.Counter()

    class Counting(layers.Layer):
        def call(self, x):
            tf.py_function(lambda count: rows.update(rows=int(count)), [tf.shape(x)[0]], [])
            return x

    model = hybrid(make_encoder(Counting()))
    rows.clear()
    model.fit(X, Y, epochs=2, validation_data=(X, Y), verbose=0, cache=CACHES[cache](tmp_path))
    assert rows["rows"] == runs


def test_rows_are_shuffled_with_their_labels(tmp_path):
    """A data set's as well: batches differ between epochs, features and labels stay together."""
    seen = []

    class Watching(hy.HybridModel):
        def train_step(self, data):
            x, y = data
            tf.py_function(lambda h, y: seen.append((h.numpy(), y.numpy())), [self.flow_input(x), y], [])
            return super().train_step(data)

    encoder, y = make_encoder(), np.arange(24)
    for cache in ("memory", tmp_path):
        seen.clear()
        model = Watching(hy.flow_distribution(small_flow()), hy.heads.Categorical(24), encoder=encoder)
        model.compile(keras.optimizers.Adam(1e-3))
        model.fit(data_set(X, y), epochs=2, verbose=0, cache=cache)
        assert [len(labels) for _, labels in seen] == 6 * [8]
        orders = [np.concatenate([labels for _, labels in seen[i : i + 3]]) for i in (0, 3)]
        assert (orders[0] != orders[1]).any() and all(sorted(order) == sorted(y) for order in orders)
        for h, labels in seen:
            np.testing.assert_allclose(h, features(encoder)[labels], rtol=1e-4, atol=1e-5)


def test_folder_serves_the_same_rows_again(tmp_path, monkeypatch):
    model = hybrid(make_encoder())
    model.fit(X, Y, verbose=0, cache=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), features(model.encoder), rtol=1e-4, atol=1e-5)
    ran = []
    encode = type(model).features_in_batches
    monkeypatch.setattr(type(model), "features_in_batches", lambda self, *args: ran.append(1) or encode(self, *args))
    model.fit(X, Y, verbose=0, cache=tmp_path)
    assert not ran
    model.fit(X[::-1], Y[::-1], verbose=0, cache=tmp_path)
    assert ran
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), features(model.encoder)[::-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("damage", ["{", "{}", "[1]", None])
def test_a_damaged_folder_is_filled_anew(damage, tmp_path):
    model = hybrid(make_encoder())
    model.fit(X, Y, verbose=0, cache=tmp_path)
    if damage is None:
        whole = (tmp_path / "features.npy").read_bytes()
        (tmp_path / "features.npy").write_bytes(whole[: len(whole) // 2])
    else:
        (tmp_path / "features.json").write_text(damage)
    model.fit(X, Y, verbose=0, cache=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "features.npy"), features(model.encoder), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cache", [3, True])
def test_a_cache_that_is_no_folder_is_refused(cache):
    with pytest.raises(ValueError, match=f"cache is {cache}; wanted 'memory', a folder, or None"):
        hybrid(make_encoder()).fit(X, Y, verbose=0, cache=cache)


def test_folder_of_another_encoder_is_refused(tmp_path):
    hybrid(make_encoder()).fit(X, Y, verbose=0, cache=tmp_path)
    with pytest.raises(ValueError, match="holds features of an encoder with other weights; wanted the folder of"):
        hybrid(make_encoder(seed=2)).fit(X, Y, verbose=0, cache=tmp_path)


NOT_CACHED = {
    "generator": lambda: dict(x=((X, Y) for _ in range(1))),
    "endless": lambda: dict(x=data_set(X, Y).repeat(), steps_per_epoch=2),
    "steps": lambda: dict(x=data_set(X, Y), steps_per_epoch=2),
    "validation steps": lambda: dict(x=X, y=Y, validation_data=data_set(X, Y).repeat(), validation_steps=1),
}


@pytest.mark.parametrize("name", NOT_CACHED)
def test_what_may_have_no_end_is_not_cached(name, tmp_path):
    encoder = make_encoder()
    assert np.isfinite(hybrid(encoder).fit(**NOT_CACHED[name](), verbose=0).history["loss"]).all()
    with pytest.raises(ValueError, match=r"cache is .*, but x(_val)? is a generator or may have no end"):
        hybrid(encoder).fit(**NOT_CACHED[name](), verbose=0, cache=tmp_path)


def test_folder_without_a_frozen_encoder_is_refused(tmp_path):
    for model, x in ((hybrid(), features(make_encoder())), (hybrid(make_encoder(), train_encoder=True), X)):
        with pytest.raises(ValueError, match="cache is .*, but the model has no frozen encoder"):
            model.fit(x, Y, verbose=0, cache=tmp_path)


CHECKING = {
    "fit": lambda model, path: model.fit(X, Y, verbose=0),
    "evaluate": lambda model, path: model.evaluate(X, Y, verbose=0),
    "predict": lambda model, path: model.predict(X, verbose=0),
    "log_prob": lambda model, path: model.log_prob(X),
    "train_on_batch": lambda model, path: model.train_on_batch(X, Y),
    "adapt": lambda model, path: model.adapt(X),
    "save": lambda model, path: model.save(path / "model.keras"),
    "export": lambda model, path: model.export(path / "model", verbose=False),
}


def test_changed_encoder_is_refused(tmp_path):
    encoder = make_encoder()
    model = hybrid(encoder)
    model.fit(X, Y, verbose=0)
    statistic = encoder.layers[2].moving_mean  # training the encoder elsewhere changes this, too
    before = statistic.numpy()
    statistic.assign(before + 0.1)
    for call in CHECKING.values():
        with pytest.raises(ValueError, match="the weights of 'sequential.*' have changed since the density was fitted"):
            call(model, tmp_path)
    assert list(tmp_path.iterdir()) == []
    statistic.assign(before)
    for call in CHECKING.values():
        call(model, tmp_path)


def test_encoder_changed_during_fit_is_refused():
    model = hybrid(make_encoder())
    change = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: model.encoder.layers[2].gamma.assign([1, 2, 3, 4]))
    with pytest.raises(ValueError, match="have changed since"):
        model.fit(X, Y, verbose=0, callbacks=[change])


def test_one_file_holds_it_all(tmp_path):
    encoder = make_encoder()
    encoder.layers[2].trainable = False  # Keras then lists its weights in another order, once loaded
    model = hybrid(encoder)
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.log_prob(X), model.log_prob(X), rtol=1e-5)
    assert [weight.trainable for weight in loaded.encoder.weights].count(True) == 4
    again = loaded.fit(X, Y, verbose=0, shuffle=False).history["loss"]
    np.testing.assert_allclose(again, model.fit(X, Y, verbose=0, shuffle=False).history["loss"], rtol=1e-4)
    loaded.encoder.layers[1].kernel.assign(0 * loaded.encoder.layers[1].kernel)
    with pytest.raises(ValueError, match="have changed since"):
        loaded.predict(X, verbose=0)


@pytest.mark.integration
def test_export_takes_raw_inputs(tmp_path):
    model = hybrid(make_encoder())
    model.fit(X, Y, verbose=0)
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(loaded.serve(X.astype("float32")), model.predict(X, verbose=0), rtol=1e-4)


def test_rejector_knows_the_model_again(tmp_path):
    model = hybrid(make_encoder())
    model.fit(X, Y, verbose=0)
    rejector = uncertainty.Rejector(model, uncertainty.NegativeLogProb()).fit_threshold(X, quantile=0.9)
    answers = rejector.predict(X)
    rejector.save(tmp_path / "rejector.keras")
    loaded = keras.models.load_model(tmp_path / "rejector.keras").predict(X)
    np.testing.assert_allclose(loaded["score"], answers["score"], rtol=1e-4, atol=1e-5)


def test_config_without_encoder_is_as_before():
    assert not {"encoder", "train_encoder"} & set(hybrid().get_config())
    assert [weight.name for weight in hybrid().weights].count("encoder_fingerprint") == 0


def test_crafted_encoder_is_refused(tmp_path):
    hybrid(make_encoder()).save(tmp_path / "model.keras")

    def name_a_function(config):
        function = {"module": "keras.config", "class_name": "function", "config": "set_epsilon"}
        config["config"]["encoder"]["config"]["layers"][1] = {
            "module": "keras.layers",
            "class_name": "Lambda",
            "config": {"name": "f", "function": function | {"registered_name": "set_epsilon"}},
        }

    change_config(tmp_path / "model.keras", name_a_function)
    with pytest.raises(ValueError, match="may not name keras.config.set_epsilon"):
        keras.models.load_model(tmp_path / "model.keras")


def test_density_is_called_that_of_features(model):
    assert model.loss == "-(log p(y|x) + lambda log p(features))" and density(model.encoder).loss == "-log p(features)"
    assert "log_prob_features" in model.evaluate(X, Y, verbose=0, return_dict=True)
    assert {"bits_per_dim", "log_prob_x"} & {metric.name for metric in model.metrics} == set()
    assert "log p(features), encoder='sequential" in repr(model) and "encoder" not in repr(hybrid())
    lines = []
    model.summary(print_fn=lines.append)
    assert "From features to z, by the flow's steps: log p(features)" in "\n".join(lines)
    draws = model.sample(5, seed=0)
    assert draws["features"].shape == (5, 3) and draws["y"].shape == (5,)
    joint = model.joint.log_prob(draws)
    p_h, p_y = model.distribution.log_prob(draws["features"]), model.head(model.flow.inverse(draws["features"]))
    np.testing.assert_allclose(joint, p_h + p_y.log_prob(draws["y"]), rtol=1e-4)


def test_divergence_is_said_to_be_of_the_features():
    model = hybrid(make_encoder())
    model.compile(keras.optimizers.SGD(1e20))
    with pytest.raises(FloatingPointError, match=r"in (log p\(features\)|log p\(y\|x\))"):
        model.fit(X, Y, epochs=3, verbose=0)


def test_regularizers_of_a_frozen_encoder_cost_nothing():
    keras.utils.set_random_seed(0)
    dense = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(10.0))
    encoder = keras.Sequential([keras.Input((2,)), dense])
    x = np.random.default_rng(0).normal(size=(24, 2)).astype("float32")
    wanted = hybrid().evaluate(encoder(x), Y, verbose=0, return_dict=True)["loss"]
    assert float(sum(encoder.losses)) > 1
    np.testing.assert_allclose(hybrid(encoder).evaluate(x, Y, verbose=0, return_dict=True)["loss"], wanted, rtol=1e-5)


def test_early_stopping_on_held_out_density():
    model = density(make_encoder())
    stopping = keras.callbacks.EarlyStopping("val_loss", min_delta=1e9, patience=1)
    history = model.fit(X, epochs=5, verbose=0, validation_split=0.25, callbacks=[stopping]).history
    assert len(history["val_log_prob_features"]) == 2


def test_training_moves_the_encoder_by_labels_alone():
    """The encoder's gradient is that of -log p(y|x), whatever lambda; flow and head have that of the whole loss."""
    encoder = make_encoder()
    encoder.layers[3].rate = 0.0
    model = hybrid(encoder, train_encoder=True)
    model.compile(keras.optimizers.SGD(0.1))
    flow_and_head = [*model.density.trainable_weights, *model.head.trainable_weights]
    with tf.GradientTape(persistent=True) as tape:
        h = encoder(tf.cast(X, tf.float32), training=True)
        z, log_det = model.flow.inverse_and_log_det(h)
        nll = -tf.reduce_mean(model.head(z).log_prob(Y))
        loss = nll - 0.1 * tf.reduce_mean(model.distribution.distribution.log_prob(z) + log_det)
    gradients = tape.gradient(nll, encoder.trainable_weights) + tape.gradient(loss, flow_and_head)
    variables = [*encoder.trainable_weights, *flow_and_head]
    wanted = [v.numpy() if g is None else v - 0.1 * g for v, g in zip(variables, gradients, strict=True)]
    moving = encoder.layers[2].moving_mean.numpy()
    model.train_on_batch(X, Y)
    for variable, value in zip(variables, wanted, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-3, atol=1e-5)
    assert (encoder.layers[2].moving_mean.numpy() != moving).all()
    model.fit(X, Y, verbose=0)
    model.predict(X, verbose=0)  # a trained encoder may change


def test_encoder_is_unfrozen_after_the_flow_was_trained():
    encoder = make_encoder()
    model = hybrid(encoder)
    model.fit(X, Y, verbose=0)
    before = weights_of(encoder)
    model.train_encoder = True
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(X, Y, verbose=0)
    assert all((weight.numpy() != value).any() for weight, value in zip(encoder.weights, before, strict=True))
    model.train_encoder = False
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(X, Y, verbose=0)
    encoder.layers[1].bias.assign([1, 2, 3, 4])
    with pytest.raises(ValueError, match="have changed since"):
        model.predict(X, verbose=0)


def test_inputs_of_any_size_and_maps_of_features():
    keras.utils.set_random_seed(0)
    encoder = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(3, 3), layers.GlobalAveragePooling2D()])
    model = hybrid(encoder)
    model.fit(X, Y, verbose=0)
    assert model.log_prob(np.resize(X, (5, 9, 7, 1))).shape == (5,)
    with pytest.raises(ValueError, match=r"x has shape \(2, 4, 4, 3\); wanted \('n', None, None, 1\)"):
        model.predict(np.zeros((2, 4, 4, 3)))
    encoder = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(2, 3, padding="same")])
    flow = hy.bijectors.Glow((4, 4, 2), levels=1, steps=1, hidden_units=4, quantization_levels=None)
    maps = hybrid(encoder, flow=flow)
    maps.fit(X, Y, verbose=0)
    wanted = maps.distribution.log_prob(features(encoder))
    np.testing.assert_allclose(maps.log_prob(X), wanted, rtol=1e-3)


def test_encoder_of_a_table_matches_columns():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(24, 2)), columns=["a", "b"])
    model = hybrid(keras.Sequential([keras.Input((2,)), layers.Dense(3)]))
    model.fit(frame, Y, verbose=0)
    assert model.feature_names == ("a", "b")
    np.testing.assert_array_equal(model.log_prob(frame[["b", "a"]]), model.log_prob(frame))


def test_half_precision_features(policy):
    policy("mixed_float16")
    encoder = make_encoder()
    policy("float32")
    model = hybrid(encoder)
    model.fit(X, Y, verbose=0)
    assert encoder.outputs[0].dtype == "float16" and np.isfinite(model.log_prob(X)).all()


def inputs(count):
    return [keras.Input((3,)) for _ in range(count)]


def two_outputs():
    (x,) = inputs(1)
    return keras.Model(x, [layers.Dense(3)(x), layers.Dense(3)(x)])


def two_inputs():
    both = inputs(2)
    return keras.Model(both, layers.Dense(3)(layers.Add()(both)))


class Subclassed(keras.Model):
    def call(self, x):
        return x


BAD = {
    "not a model": (lambda: layers.Dense(3), "`encoder` is <Dense .*; wanted a Keras model"),
    "unbuilt": (lambda: keras.Sequential([layers.Dense(3)]), "is not built or does not say its shapes; wanted"),
    "subclassed": (Subclassed, "is not built or does not say its shapes; wanted"),
    "two outputs": (two_outputs, "has 2 outputs; wanted one"),
    "dictionary": (
        lambda: keras.Model(x := keras.Input((3,)), {"features": layers.Dense(3)(x)}),
        "a dictionary as its output; wanted a tensor",
    ),
    "two inputs": (two_inputs, "has 2 inputs; wanted one"),
    "features": (lambda: keras.Sequential([keras.Input((3,)), layers.Dense(4)]), r"outputs of shape \('n', 4\), but"),
    "any size": (
        lambda: keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(3, 1)]),
        r"outputs of shape \('n', None, None, 3\), but .*fixed input_shape",
    ),
    "text": (
        lambda: keras.Sequential([keras.Input((), dtype="string"), layers.Identity()]),
        "dtype string",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_encoders(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=f"HybridModel: .*{message}"):
        hybrid(make())


def test_bad_combinations():
    with pytest.raises(ValueError, match="`train_encoder` is True, but there is no `encoder`"):
        hybrid(train_encoder=True)
    p_h = hy.flow_distribution(hy.bijectors.RealNVP((3,)))
    with pytest.raises(ValueError, match="`train_encoder` is True; wanted False: .* have any density"):
        hy.DensityModel(p_h, encoder=make_encoder(), train_encoder=True)
    with pytest.raises(ValueError, match="dequantizes integers, but the features"):
        hybrid(make_encoder(), flow=hy.bijectors.RealNVP((3,), quantization_levels=4))
    with pytest.raises(ValueError, match=r"x has shape \(24, 5\); wanted \('n', 4, 4, 1\): a batch of the encoder's"):
        hybrid(make_encoder()).fit(np.zeros((24, 5)), Y)
    tokens = keras.Sequential([keras.Input((2,), dtype="int32"), layers.Embedding(9, 3), layers.GlobalMaxPooling1D()])
    with pytest.raises(ValueError, match="x holds fractions; wanted integers, int32"):
        hybrid(tokens).predict(np.full((2, 2), 0.5))


@pytest.mark.parametrize("cache", CACHES)
def test_rows_of_nan_features_are_named(cache, tmp_path):
    class LogOfDifference(layers.Layer):
        def call(self, x):
            return tf.math.log(x - 1.0)

    x = np.full((24, 3), 2.0, "float32")
    x[[5, 21]] = 0.0
    before, model = x.copy(), hybrid(keras.Sequential([keras.Input((3,)), LogOfDifference()]))
    rows = "1 rows of x: 5" if cache == "none" else "2 rows of x: 5, 21"
    with pytest.raises(ValueError, match=f"encoder: its outputs are NaN or too large for {rows}; wanted finite"):
        model.fit(x, Y, batch_size=8, verbose=0, cache=CACHES[cache](tmp_path))
    np.testing.assert_array_equal(x, before)
    assert not list(tmp_path.glob("cache/*"))


def test_noting_layers_are_encoders_too():
    """An encoder is executed by the step itself where features are not cached."""
    notes = []
    encoder = keras.Sequential([keras.Input((3,)), Noting(lambda number: notes.append(int(number)), 7)])
    hybrid(encoder)(np.zeros((2, 3)))
    assert notes == [7]
