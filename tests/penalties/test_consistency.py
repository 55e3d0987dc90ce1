"""What the penalty adds to a loss, against both terms by hand; where it is refused; saved, compiled, resumed."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from helpers import blobs, tiny_model, weights_of

import tfp_hybrid as hy
from tfp_hybrid.recipes import RandomAffine


@keras.saving.register_keras_serializable(package="tests")
def shifted(x, seed):
    return x + 0.25


@keras.saving.register_keras_serializable(package="tests")
def jittered(x, seed):
    return x + 0.1 * tf.random.stateless_normal(tf.shape(x), seed)


def one_step(model, x, y):
    """The change of the weights by one step of SGD with the learning rate 1."""
    before = [weight.numpy() for weight in model.trainable_weights]
    model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0)
    return [old - weight.numpy() for old, weight in zip(before, model.trainable_weights, strict=True)]


@pytest.mark.parametrize("make", [lambda: hy.heads.Categorical(2), hy.heads.Bernoulli])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_a_step_is_that_of_all_terms_by_hand(make, temperature):
    x, y = blobs(40)
    y[15:] = -1
    head = make()
    penalty = hy.penalties.Consistency(shifted, temperature=temperature, weight=2.0)
    marker = -1 if head.integer_labels else np.nan
    model = tiny_model(head, missing_label=marker, optimizer=keras.optimizers.SGD(1.0), penalties=[penalty])
    head.kernel.assign(4 * np.random.default_rng(0).normal(size=head.kernel.shape))
    model.adapt(x)
    labels = np.where(y < 0, marker, y)
    with tf.GradientTape() as tape:
        seen, strong = (model.encode(x + shift, training=True) for shift in (0.25, 0.5))
        p_y = head(seen.features)
        probs = model.predict(x + 0.25, verbose=0)
        probs = probs if probs.ndim == 2 else np.stack([1 - probs, probs], 1)
        surer = probs ** (1 / temperature) / np.sum(probs ** (1 / temperature), 1, keepdims=True)
        wanted = np.where(y[:, np.newaxis] >= 0, np.eye(2)[y], surer)  # q
        yes, no = head.prepare_labels(np.ones(40)), head.prepare_labels(np.zeros(40))
        nll = -p_y.log_prob(tf.where(y > 0, yes, no)) * (y >= 0)
        log_p = tf.stack([head(strong.features).log_prob(label) for label in (no, yes)], 1)
        spread = tf.reduce_sum(tf.math.xlogy(wanted, wanted) - wanted * tf.cast(log_p, tf.float64), 1)
        spread = tf.cast(spread, tf.float32)
        loss = tf.reduce_mean(nll - model.generative_weight * seen.log_prob + 2.0 * spread) + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_weights)
    for change, gradient in zip(one_step(model, x, labels), gradients, strict=True):
        np.testing.assert_allclose(change, gradient, rtol=1e-4, atol=1e-5)


def test_where_all_labels_are_known_they_are_those_of_the_copies():
    x, y = blobs(40)
    head = hy.heads.Categorical(2)
    penalty = hy.penalties.Consistency(shifted)
    model = tiny_model(head, optimizer=keras.optimizers.SGD(1.0), penalties=[penalty])
    model.adapt(x)
    with tf.GradientTape() as tape:
        seen, strong = (model.encode(x + shift, training=True) for shift in (0.25, 0.5))
        nll = -head(seen.features).log_prob(y) - head(strong.features).log_prob(y)
        loss = tf.reduce_mean(nll - model.generative_weight * seen.log_prob) + sum(model.losses)
    gradients = tape.gradient(loss, model.trainable_weights)
    for change, gradient in zip(one_step(model, x, y), gradients, strict=True):
        np.testing.assert_allclose(change, gradient, rtol=1e-4, atol=1e-5)


def test_mixtures_of_two_rows_by_hand(monkeypatch):
    x, y = blobs(40)
    y[15:] = -1
    share = np.linspace(0.5, 1.0, 40, dtype="float32")
    partners = np.random.default_rng(0).permutation(40)
    monkeypatch.setattr(hy.penalties.Consistency, "_pairs", lambda self, rows: map(tf.constant, (share, partners)))
    head = hy.heads.Categorical(2)
    penalty = hy.penalties.Consistency(shifted, mixing=4.0)
    model = tiny_model(head, missing_label=-1, optimizer=keras.optimizers.SGD(1.0), penalties=[penalty])
    model.adapt(x)
    probs = model.predict(x + 0.25, verbose=0) ** 2
    q = np.where(y[:, np.newaxis] >= 0, np.eye(2)[y], probs / probs.sum(1, keepdims=True))
    wanted = share[:, np.newaxis] * q + (1 - share)[:, np.newaxis] * q[partners]
    with tf.GradientTape() as tape:
        seen = model.encode(x + 0.25, training=True)
        copies = (x + 0.5).astype("float32")
        mixed = model.encode(
            share[:, np.newaxis] * copies + (1 - share)[:, np.newaxis] * copies[partners], training=True
        )
        nll = -head(seen.features).log_prob(tf.maximum(y, 0)) * (y >= 0)
        cross_entropy = -tf.reduce_sum(wanted.astype("float32") * tf.nn.log_softmax(head(mixed.features).logits), 1)
        loss = tf.reduce_mean(nll - model.generative_weight * seen.log_prob + cross_entropy) + sum(model.losses)
    gradients = tape.gradient(
        loss, model.trainable_weights
    )  # those of the divergence: the entropies of q are constants
    for change, gradient in zip(one_step(model, x, y), gradients, strict=True):
        np.testing.assert_allclose(change, gradient, rtol=1e-4, atol=1e-5)


def test_shares_are_of_a_folded_beta_distribution():
    keras.utils.set_random_seed(0)
    share, partners = hy.penalties.Consistency(shifted, mixing=4.0)._pairs(5000)
    a = scipy.stats.beta(4.0, 4.0)
    assert scipy.stats.kstest(share, lambda s: a.cdf(s) - a.cdf(1 - s)).pvalue > 0.01
    assert sorted(partners.numpy()) == list(range(5000)) and (partners.numpy() != np.arange(5000)).mean() > 0.99


def test_only_training_changes_inputs():
    x, y = blobs(40)
    plain = tiny_model()
    model = tiny_model(penalties=[hy.penalties.Consistency(shifted)])
    for one in (plain, model):
        one.adapt(x)
    assert model.evaluate(x, y, verbose=0) == plain.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(model.log_prob(x), plain.log_prob(x))


def test_copies_are_others_in_each_step_and_follow_the_seed():
    x, y = blobs(40)

    def changes():
        model = tiny_model(penalties=[hy.penalties.Consistency(jittered)])
        model.adapt(x)
        return [one_step(model, x, y)[0] for _ in range(2)], model.penalties[0]

    (first, penalty), (again, _) = changes(), changes()
    np.testing.assert_array_equal(first, again)
    a, b = penalty.inputs(tf.zeros((3, 2))), penalty.inputs(tf.zeros((3, 2)))
    assert np.abs(a - b).min() > 0


def test_xla_equals_graph():
    x, y = blobs(40)
    y[15:] = -1
    found = []
    for jit in (True, False):
        model = tiny_model(missing_label=-1, penalties=[hy.penalties.Consistency(shifted)])
        model.compile(keras.optimizers.SGD(0.1), jit_compile=jit)
        model.adapt(x)
        model.fit(x, y, batch_size=40, epochs=2, shuffle=False, verbose=0)
        found.append(weights_of(model))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.nightly
def test_xla_mixes():
    x, y = blobs(40)
    y[15:] = -1
    model = tiny_model(missing_label=-1, penalties=[hy.penalties.Consistency(jittered, mixing=4.0)])
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=True)
    loss = model.fit(x, y, batch_size=20, epochs=8, verbose=0).history["loss"]
    assert np.isfinite(loss).all() and loss[-1] < loss[0]


def test_saved_and_trained_on(tmp_path):
    x, y = blobs(40)
    y[15:] = -1
    penalty = hy.penalties.Consistency(jittered, shifted, temperature=0.6, mixing=2.0, weight=3.0)
    model = tiny_model(missing_label=-1, penalties=[penalty])
    model.fit(x, y, batch_size=20, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    (found,) = loaded.penalties
    assert (found.augment, found.strong, found.temperature, found.mixing) == (jittered, shifted, 0.6, 2.0)
    assert found.weight == 3.0
    np.testing.assert_array_equal(found.random_state, penalty.random_state)
    for one in (model, loaded):
        one.fit(x, y, batch_size=20, shuffle=False, verbose=0)
    for one, other in zip(weights_of(model), weights_of(loaded), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_function_that_keras_does_not_know_cannot_be_saved(tmp_path):
    model = tiny_model(penalties=[hy.penalties.Consistency(lambda x, seed: x)])
    with pytest.raises(TypeError, match="augment"):
        model.save(tmp_path / "model.keras")


def test_images_by_keras_layers_and_by_random_affine():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 17, (20, 8, 8, 1)).astype("uint8"), rng.integers(0, 2, 20)
    y[5:] = -1
    flow = hy.bijectors.Glow((8, 8, 1), levels=2, steps=1, hidden_units=4, quantization_levels=17)
    for augment in (RandomAffine(17), keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant")):
        penalty = hy.penalties.Consistency(augment)
        model = hy.HybridModel(
            hy.flow_distribution(flow.copy()), hy.heads.Categorical(2), missing_label=-1, penalties=[penalty]
        )
        model.compile("adam")
        history = model.fit(x, y, batch_size=10, labelled_per_batch=3, verbose=0).history
        assert np.isfinite(history["loss"][0]) and not model.jit_compile  # neither has an operation of XLA


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((3,), "augment is 3; wanted a Keras layer, or a function"),
        ((lambda x: x,), "augment is .*wanted a Keras layer, or a function `.x, seed.` .too many"),
        ((shifted, 3), "strong is 3; wanted a Keras layer"),
        ((shifted, None, 1.1), "temperature is 1.1; wanted at most 1"),
        ((shifted, None, 0.0), "temperature is 0.0; wanted a number above 0"),
        ((shifted, None, 0.5, -1.0), "mixing is -1.0; wanted a number of at least 0"),
        ((shifted, None, 0.5, 0.0, 0.0), "weight is 0.0; wanted a number above 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        hy.penalties.Consistency(*arguments)


def test_models_that_it_is_not_for():
    penalty = hy.penalties.Consistency(shifted)
    with pytest.raises(ValueError, match="Consistency: the head is Normal; wanted one of classes"):
        tiny_model(hy.heads.Normal(), penalties=[penalty])
    with pytest.raises(ValueError, match="`penalties` is .*; wanted a list of `tfp_hybrid.penalties`"):
        tiny_model(penalties=[shifted])
    encoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    p_x = hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,)))
    with pytest.raises(ValueError, match="has a frozen encoder, which does not see augmented inputs"):
        hy.HybridModel(p_x, hy.heads.Categorical(2), encoder=encoder, penalties=[penalty])


def test_a_training_goes_on_only_with_the_same_penalty(tmp_path):
    x, y = blobs(32)
    path = tmp_path / "state.npz"

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    def fit(callbacks, **options):
        model = tiny_model(penalties=[hy.penalties.Consistency(shifted, **options)])
        return model.fit(x, y, 8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)

    with pytest.raises(KeyboardInterrupt):
        fit([hy.callbacks.BackupAndRestore(path), Stop()])
    for options in ({"temperature": 0.9}, {"mixing": 1.0}, {"weight": 2.0}):
        with pytest.raises(ValueError, match="penalties was .* and is now"):
            fit([hy.callbacks.BackupAndRestore(path)], **options)
    assert len(fit([hy.callbacks.BackupAndRestore(path)]).history["loss"]) == 1


def test_a_layer_in_front_of_integers_gives_integers():
    model = tiny_images()
    x = tf.constant(np.random.default_rng(0).integers(4, size=(50, 4, 4, 1)), tf.uint8)
    for layer in (keras.layers.GaussianNoise(1.0), keras.layers.RandomTranslation(0.3, 0.3)):
        penalty = hy.penalties.Consistency(layer)
        penalty.check(model)
        changed = penalty.inputs(x)
        assert changed.dtype == tf.uint8 and changed.numpy().max() <= 3 and (changed.numpy() != x.numpy()).any()


def tiny_images():
    flow = hy.bijectors.Glow((4, 4, 1), levels=2, steps=1, hidden_units=8, quantization_levels=4)
    return hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2), missing_label=-1)


def one_column(x, seed):
    return x[:, :1]


def nothing(x, seed):
    return None


def by_numpy(x, seed):
    return np.asarray(x) + 1


@pytest.mark.parametrize("change", [one_column, nothing, by_numpy])
@pytest.mark.parametrize("argument", ["augment", "strong"])
def test_what_cannot_change_inputs_is_refused_at_once(change, argument):
    arguments = {"augment": shifted} | {argument: change}
    with pytest.raises(ValueError, match=f"Consistency: `{argument}` is .*cannot change inputs of shape"):
        tiny_model(missing_label=-1, penalties=[hy.penalties.Consistency(**arguments)])


def test_weights_to_train_are_refused():
    for layer in (keras.layers.Dense(2), keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(2)])):
        with pytest.raises(ValueError, match="has weights that training would make easy"):
            tiny_model(missing_label=-1, penalties=[hy.penalties.Consistency(layer)])
    layer.trainable = False
    tiny_model(missing_label=-1, penalties=[hy.penalties.Consistency(layer)])
    with pytest.raises(ValueError, match="augment is .*GaussianNoise.*; wanted a Keras layer, or a function"):
        hy.penalties.Consistency(keras.layers.GaussianNoise)


def test_settings_tell_changes_apart():
    one, same = (hy.penalties.Consistency(RandomAffine(17)).settings for _ in range(2))
    others = [hy.penalties.Consistency(RandomAffine(17, shift=1.0)), hy.penalties.Consistency(shifted, strong=jittered)]
    others += [hy.penalties.Consistency(shifted), hy.penalties.Consistency(one_column)]
    layers = [
        hy.penalties.Consistency(keras.layers.RandomTranslation(0.1, share)).settings for share in (0.1, 0.1, 0.2)
    ]
    assert layers[0] == layers[1] != layers[2]
    assert one == same and len({repr(settings) for settings in [one, *(other.settings for other in others)]}) == 5


class Rows(hy.penalties.Penalty):
    """Whose rows are what it is given."""

    def __init__(self, found, **kwargs):
        super().__init__(**kwargs)
        self.found = found

    def rows(self, batch):
        return self.found(batch)


@pytest.mark.parametrize(
    "found", [lambda batch: batch.features, lambda batch: batch.features[:, :1], lambda batch: 1.0, lambda batch: None]
)
def test_rows_are_one_number_each(found):
    x, y = blobs(40)
    model = tiny_model(penalties=[Rows(found)])
    with pytest.raises(ValueError, match=r"Rows.rows returned .*; wanted one number for each row, \(n,\)"):
        model.train_on_batch(x, y)


def test_a_penalty_is_registered_to_be_saved_and_comes_once(tmp_path):
    penalty = Rows(lambda batch: batch.features[:, 0])
    with pytest.raises(TypeError, match="the penalty Rows is not registered; decorate its class"):
        tiny_model(penalties=[penalty]).save(tmp_path / "model.keras")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="has a penalty twice"):
        tiny_model(penalties=[penalty, penalty])
