"""DensityModel: maximum likelihood through Keras' interface, against TFP, autodiff and closed forms."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, mvn_log_prob, randomize, weights_of

import tfp_hybrid as hy

tfb, tfd = tfp.bijectors, tfp.distributions
X, Y = blobs(32)
IMAGES = np.random.default_rng(0).integers(4, size=(8, 4, 4, 1))


def density(optimizer=None, seed=0, **compiled):
    keras.utils.set_random_seed(seed)
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    model = hy.DensityModel(hy.flow_distribution(flow))
    randomize(model.trainable_weights, seed)
    model.compile(keras.optimizers.SGD(0.1) if optimizer is None else optimizer, **compiled)
    return model


def density_of_images():
    flow = hy.bijectors.Glow((4, 4, 1), levels=1, steps=1, hidden_units=4, quantization_levels=4)
    model = hy.DensityModel(hy.flow_distribution(flow))
    randomize(model.trainable_weights)
    model.compile(keras.optimizers.Adam(1e-3))
    return model


@pytest.fixture(scope="module")
def model():
    return density()


def test_loss_is_negative_log_likelihood(model):
    wanted = -np.mean(model.distribution.log_prob(X))
    logs = model.evaluate(X, return_dict=True, verbose=0)
    np.testing.assert_allclose([logs["loss"], -logs["log_prob_x"]], wanted, rtol=1e-5)
    weights = np.arange(32.0)
    weighted = model.evaluate(X, sample_weight=weights, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(weighted, -np.mean(weights * model.distribution.log_prob(X)), rtol=1e-5)


@pytest.mark.parametrize("weights", [None, np.linspace(0, 2, 32)])
def test_step_follows_the_gradient(weights):
    model = density()
    variables = model.distribution.trainable_variables
    with tf.GradientTape() as tape:
        rows = model.distribution.log_prob(X) * (1.0 if weights is None else weights.astype("float32"))
        loss = -tf.reduce_mean(rows)
    wanted = [v - 0.1 * g for v, g in zip(variables, tape.gradient(loss, variables), strict=True)]
    model.fit(X, sample_weight=weights, batch_size=32, verbose=0)
    for variable, value in zip(variables, wanted, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-4, atol=1e-6)


def test_encoding_has_every_part(model):
    encoding = model.encode(X)
    p_x, x = model.distribution, tf.constant(X)
    z = p_x.bijector.inverse(tf.identity(x))
    log_det = p_x.bijector.inverse_log_det_jacobian(tf.identity(x), event_ndims=1)
    np.testing.assert_allclose(encoding.z, z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoding.features, z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(encoding.log_p_z, p_x.distribution.log_prob(z), rtol=1e-5)
    np.testing.assert_allclose(encoding.log_det, log_det, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(encoding.log_prob, p_x.log_prob(x), rtol=1e-4)
    parts = list(model.encode_batches(X, batch_size=20))
    assert [len(part.x) for part in parts] == [20, 12]
    np.testing.assert_allclose(np.concatenate([part.z for part in parts]), z, rtol=1e-5, atol=1e-6)


def test_every_answer_is_the_density(model):
    wanted = model.distribution.log_prob(X)
    np.testing.assert_allclose(model.predict(X, verbose=0), wanted, rtol=1e-5)
    np.testing.assert_allclose(model(X), wanted, rtol=1e-5)
    np.testing.assert_allclose(model.log_prob(X, batch_size=5), wanted, rtol=1e-5)
    far = np.full((2, 2), 3e38, "float32")
    assert (model.predict(far, verbose=0) == -np.inf).all()


def test_training_finds_a_gaussian():
    """The flow can be exactly the Gaussian that the data are drawn from; its log-density is then known."""
    rng, mean, scale = np.random.default_rng(0), np.array([3.0, -1.0]), np.array([[2.0, 0.0], [1.0, 0.5]])
    x = (rng.normal(size=(4000, 2)) @ scale.T + mean).astype("float32")
    flow = hy.bijectors.FusedChain([hy.bijectors.ActNorm((2,)), hy.bijectors.InvertibleLinear((2,))], (2,))
    model = hy.DensityModel(hy.flow_distribution(flow))
    model.compile(keras.optimizers.Adam(0.02))
    model.fit(x, batch_size=500, epochs=30, verbose=0)
    fresh = (rng.normal(size=(200, 2)) @ scale.T + mean).astype("float32")
    difference = model.log_prob(fresh) - mvn_log_prob(fresh, mean, scale @ scale.T)
    assert np.abs(difference).mean() < 0.1 and abs(difference.mean()) < 0.02
    draws = model.sample(4000, seed=1).numpy()
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.15)
    np.testing.assert_allclose(np.cov(draws.T), scale @ scale.T, atol=0.3)


FORMS = {
    "array": lambda: (X,),
    "data set of x": lambda: (tf.data.Dataset.from_tensor_slices(X).batch(8),),
    "data set of (x,)": lambda: (tf.data.Dataset.from_tensor_slices((X,)).batch(8),),
    "data set of (x, y)": lambda: (tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),),
    "data set of (x, y, weight)": lambda: (tf.data.Dataset.from_tensor_slices((X, Y, np.ones(32))).batch(8),),
    "generator": lambda: ((X[i : i + 8], Y[i : i + 8]) for i in range(0, 32, 8)),
}


@pytest.fixture(scope="module")
def weights_trained_on_an_array():
    model = density()
    model.fit(X, batch_size=8, shuffle=False, verbose=0)
    return weights_of(model)


@pytest.mark.integration
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_data_train_alike(weights_trained_on_an_array, form):
    model, data = density(), FORMS[form]()
    model.fit(*(data if isinstance(data, tuple) else (data,)), batch_size=8, shuffle=False, verbose=0)
    for one, other in zip(weights_of(model), weights_trained_on_an_array, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_data_frames_give_names(tmp_path):
    model = density()
    frame = pd.DataFrame(X, columns=["a", "b"])
    model.fit(frame, verbose=0)
    model.save(tmp_path / "density.keras")
    loaded = keras.models.load_model(tmp_path / "density.keras")
    assert loaded.feature_names == ("a", "b")
    np.testing.assert_allclose(loaded.log_prob(frame[["b", "a"]]), model.log_prob(X), rtol=1e-5)


@pytest.mark.integration
def test_saved_and_exported_models_answer_alike(tmp_path):
    for model, x in ((density(keras.optimizers.Adam(1e-3)), X), (density_of_images(), IMAGES.astype("float32"))):
        model.fit(x, verbose=0)
        wanted = model.predict(x, verbose=0)
        model.save(tmp_path / "density.keras")
        loaded = keras.models.load_model(tmp_path / "density.keras")
        assert type(loaded) is hy.DensityModel and int(loaded.optimizer.iterations) == 1
        np.testing.assert_allclose(loaded.predict(x, verbose=0), wanted, rtol=1e-5)
        model.export(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        np.testing.assert_allclose(served.serve(tf.constant(x)), wanted, rtol=1e-5)


def test_bits_per_dim_of_integers():
    model = density_of_images()
    logs = model.evaluate(IMAGES, return_dict=True, verbose=0)
    np.testing.assert_allclose(logs["bits_per_dim"], -logs["log_prob_x"] / np.log(2) / 16, rtol=1e-5)
    with pytest.raises(ValueError, match="wanted integers 0 .. 3"):
        model.fit(IMAGES / 2)


def test_callbacks_know_the_direction():
    model = density(keras.optimizers.SGD(0.0))
    stopping = keras.callbacks.EarlyStopping("val_log_prob_x", patience=1)
    history = model.fit(X, validation_data=X[:8], epochs=5, verbose=0, callbacks=[stopping])
    assert stopping.monitor_op(1.0, 0.0) and len(history.history["loss"]) == 2


@pytest.mark.integration
def test_xla_trains_as_the_graph():
    models = [density(jit_compile=jit) for jit in (False, True)]
    for model in models:
        model.fit(X, batch_size=8, shuffle=False, verbose=0)
    for one, other in zip(weights_of(models[0]), weights_of(models[1]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.integration
def test_replica_without_rows_changes_nothing():
    """33 rows on two devices in batches of 8: the last batch leaves one of them without."""
    x = np.concatenate([X, X[:1]])
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        model = density()
    model.fit(x, batch_size=8, shuffle=False, verbose=0)
    wanted = density()
    wanted.fit(x, batch_size=8, shuffle=False, verbose=0)
    for one, other in zip(weights_of(model), weights_of(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_hybrid_model_adds_the_head(model):
    """With lambda = 1 its loss is this one's, plus that of the head."""
    hybrid = hy.HybridModel(model.distribution, hy.heads.Categorical(2), generative_weight=1.0)
    hybrid.compile(keras.optimizers.SGD(0.1))
    assert isinstance(hybrid, hy.DensityModel) and model.head is None
    logs = hybrid.evaluate(X, Y, return_dict=True, verbose=0)
    density_loss = model.evaluate(X, verbose=0, return_dict=True)["loss"]
    np.testing.assert_allclose(logs["loss"] - logs["nll"], density_loss, rtol=1e-5)
    assert [metric.name for metric in hybrid.metrics] == ["loss", "nll", "accuracy", "log_prob_x"]


def test_scores_and_rejection():
    model = density()
    typicality = hy.uncertainty.Typicality().fit(model, X)
    assert np.isfinite(typicality.score(model, X)).all()
    np.testing.assert_allclose(hy.uncertainty.NegativeLogProb().score(model, X), -model.log_prob(X), rtol=1e-5)
    titles = {score.title for score in hy.uncertainty.all_scores(model, X)}
    of_x = {
        "-log p(x)",
        "typicality",
        "||z||",
        "| ||z|| - mean |",
        "neighbour 5 of z / ||z||",
        "density of states",
        "combined",
    }
    assert titles == of_x
    with pytest.raises(ValueError, match="has no p.y|x."):
        hy.uncertainty.PredictiveEntropy().score(model, X)
    with pytest.raises(ValueError, match="has no p.y|x."):
        hy.uncertainty.Rejector(model)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.fit(X, Y), "y is given, but a DensityModel models x alone; wanted no labels"),
        (lambda m: m.train_on_batch(X, Y), "y is given, but a DensityModel"),
        (lambda m: m.evaluate(X, Y), "y is given, but a DensityModel"),
        (lambda m: m.fit(X, validation_data=(X, Y)), "y_val is given"),
        (lambda m: m.fit(X, class_weight={0: 1.0, 1: 2.0}), "class_weight is given, but a DensityModel has no classes"),
        (lambda m: m.fit(X * np.nan), "x holds nan"),
        (lambda m: m.fit(X, sample_weight=-np.ones(32)), "sample_weight holds -1"),
        (lambda m: m.adapt(X, Y), "y is given, but a DensityModel"),
        (lambda m: m.sample(-1), "n is -1"),
        (lambda m: m.encode(X[:, :1]), "x has shape"),
        (lambda m: hy.DensityModel(tfd.Normal(0.0, 1.0)), "DensityModel: `distribution` is"),
        (lambda m: hy.DensityModel(tfd.TransformedDistribution(tfd.Normal([0.0], 1.0), tfb.Exp())), "event shape"),
    ],
)
def test_wrong_use_is_explained(call, message, model):
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        call(model)
    assert all((one == other).all() for one, other in zip(weights_of(model), before, strict=True))


def test_its_own_loss():
    model = density(loss="mse")
    with pytest.raises(ValueError, match="DensityModel has its own loss, -log p.x.; compile it without `loss`"):
        model.fit(X)


def test_a_callback_list_stops_at_a_bad_loss():
    class Broken(hy.DensityModel):
        def train_step(self, data):
            return super().train_step(data) | {"loss": tf.constant(np.nan)}

    model = Broken(density().distribution)
    model.compile(keras.optimizers.SGD(0.1))
    with pytest.raises(FloatingPointError, match="The loss became nan"):
        model.fit(X, verbose=0, callbacks=keras.callbacks.CallbackList([], model=model))


def test_a_step_of_a_subclass_may_report_the_loss_alone():
    class Terse(hy.DensityModel):
        def train_step(self, data):
            return {"loss": super().train_step(data)["loss"]}

    model = Terse(density().distribution)
    model.compile(keras.optimizers.SGD(0.0))
    np.testing.assert_allclose(model.train_on_batch(X), -model.log_prob(X).mean(), rtol=1e-5)
