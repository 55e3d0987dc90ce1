"""What users meet: freezing that is kept, latents that are flows, checkpoints that stay good."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, parts, tiny_model

import tfp_hybrid as hy
from tfp_hybrid.bijectors import ActNorm, FusedBijector, FusedChain, Glow, RealNVP
from tfp_hybrid.flows import is_adapted

tfb, tfd = tfp.bijectors, tfp.distributions
X = np.random.default_rng(0).normal(3.0, 5.0, (64, 4)).astype("float32")
Y = X[:, 0]


def small_model(flow=None, latent=None):
    flow = RealNVP((4,), couplings=2, hidden_units=(8,)) if flow is None else flow
    return hy.HybridModel(hy.flow_distribution(flow, latent), hy.heads.Normal())


@pytest.mark.integration
@pytest.mark.parametrize("part", ["density", "adopted weight", "model"])
def test_frozen_weights_and_the_optimizer_come_back(part, tmp_path):
    model = small_model()
    if part == "density":
        model.density.trainable = False
    elif part == "adopted weight":
        model.density.adopted[0].trainable = False
    else:
        model.trainable = False
    model.compile("adam")
    if part != "model":
        model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert [w.shape for w in loaded.trainable_variables] == [w.shape for w in model.trainable_variables]
    assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations)
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)


def test_an_update_that_breaks_the_weights_is_not_checkpointed(tmp_path):
    """One batch an epoch: the loss before the update is fine, the weights after it are not."""
    model = small_model()
    model.compile(keras.optimizers.SGD(1e30))
    path = tmp_path / "m.keras"
    model.save(path)
    with pytest.raises(FloatingPointError, match="validation loss became nan at step 1"):
        checkpoint = keras.callbacks.ModelCheckpoint(path)
        model.fit(X, Y, batch_size=64, epochs=3, verbose=0, validation_data=(X, Y), callbacks=[checkpoint])
    assert np.isfinite(keras.models.load_model(path).log_prob(X)).all()


def test_a_latent_that_is_a_flow_is_adapted_and_sees_training():
    inner = hy.flow_distribution(RealNVP((4,), couplings=2, conditioner=dropout_network))
    model = small_model(latent=inner)
    model.adapt(X)
    assert is_adapted(model.distribution) and is_adapted(inner)
    z, _ = model.flow.inverse_and_log_det(X)
    loc, log_scale = inner.bijector.bijectors[0].keras_weights()[:2]
    assert (loc.name, log_scale.name) == ("loc", "log_scale")
    np.testing.assert_allclose(loc[0], tf.reduce_mean(z, 0), atol=1e-4)
    np.testing.assert_allclose(tf.exp(log_scale[0]), tf.math.reduce_std(z, 0), rtol=1e-4)
    for weight in inner.trainable_variables:
        weight.assign_add(0.3 * tf.random.normal(weight.shape))
    expected = model.distribution.log_prob(tf.identity(X))
    np.testing.assert_allclose(model.log_prob(X), expected, rtol=1e-4)
    trained = [model.encode(X, training=True).log_prob for _ in range(2)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-3


def dropout_network(input_shape, units):
    return keras.Sequential([keras.Input(input_shape), keras.layers.Dense(16), keras.layers.Dropout(0.5),
                             keras.layers.Dense(units)])  # fmt: skip


def test_act_norm_that_cannot_be_reached_is_told():
    blocks = tfb.Blockwise([ActNorm((2,)), ActNorm((2,))], block_sizes=[2, 2])
    model = small_model(FusedChain([blocks], (4,)))
    with pytest.warns(UserWarning, match="ActNorm inside a stock bijector"):
        model.adapt(X)


def test_density_of_a_sample_is_that_of_its_integers():
    """TFP's cache would answer with the latent before it was rounded."""
    model = hy.HybridModel(
        hy.flow_distribution(Glow((4, 4, 1), levels=1, steps=1, hidden_units=4, quantization_levels=8)),
        hy.heads.Categorical(2),
    )
    drawn = model.sample(20)
    fresh = {name: tf.constant(value.numpy()) for name, value in drawn.items()}
    np.testing.assert_array_equal(model.joint.log_prob(drawn), model.joint.log_prob(fresh))


def test_eager_loops_over_a_stock_flow_see_new_weights():
    shift = tf.Variable(tf.zeros(4))
    model = small_model(tfb.Shift(shift), tfd.MultivariateNormalDiag(tf.zeros(4)))
    x, kept = tf.constant(X), []
    for _ in range(2):
        with tf.GradientTape() as tape:
            encoding = model.encode(x)
            loss = -tf.reduce_mean(encoding.log_prob)
        gradient = tape.gradient(loss, shift)
        shift.assign_sub(0.1 * gradient)
        kept.append((encoding.z, float(loss)))
    assert kept[1][1] < kept[0][1]


class OwnNetwork(keras.Model):
    """A subclassed model with nothing but `call`."""

    def __init__(self, units):
        super().__init__()
        self.dense = keras.layers.Dense(units)

    def call(self, x):
        return self.dense(x)


def test_a_subclassed_network_conditions():
    flow = RealNVP((4,), couplings=5, conditioner=lambda shape, units: OwnNetwork(units))
    assert sum(np.prod(variable.shape) for variable in flow.trainable_variables) == 5 * (4 + 4 + 2 * 4 + 4)


@pytest.mark.parametrize("build", [lambda net: RealNVP((4,), couplings=2, conditioner=net),
                                   lambda net: Glow((4, 4, 1), levels=1, steps=2, conditioner=net)])  # fmt: skip
def test_one_network_for_all_couplings_is_refused(build):
    with pytest.raises(ValueError, match="wanted a function"):
        build(keras.Sequential([keras.layers.Dense(4)]))


def test_a_users_class_of_our_name_does_not_take_our_place(tmp_path):
    own = type("ActNorm", (FusedBijector,), {})
    assert own.__name__ == ActNorm.__name__
    model = small_model()
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(parts(loaded.flow)[0]) is ActNorm


def test_a_validation_generator_loses_nothing():
    seen = []

    def batches():
        for start in range(0, 64, 16):
            yield X[start : start + 16], Y[start : start + 16]

    class Watch(keras.callbacks.Callback):
        def on_test_batch_end(self, batch, logs=None):
            seen.append(batch)

    model = small_model()
    model.compile("adam")
    model.fit(X, Y, validation_data=batches(), validation_steps=4, verbose=0, callbacks=[Watch()])
    assert len(seen) == 4


@pytest.mark.integration
def test_integer_flows_train_on_two_replicas():
    # Collectives, the default, are numbered per process: a strategy of an earlier test would be mixed up with this one.
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    images = np.random.default_rng(0).integers(0, 8, (16, 4, 4, 1))
    with strategy.scope():
        flow = Glow((4, 4, 1), levels=1, steps=1, hidden_units=4, quantization_levels=8)
        model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2))
        model.compile(keras.optimizers.SGD(1e-3))
    history = model.fit(images, np.arange(16) % 2, batch_size=8, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


@pytest.mark.integration
def test_metrics_of_a_subclass_are_reported():
    class Twice(hy.HybridModel):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return super().compute_metrics(x, y, y_pred, sample_weight) | {"two": 2.0}

    model = tiny_model()
    twice = Twice(model.distribution, model.head)
    twice.compile(keras.optimizers.Adam(1e-3))
    assert twice.fit(*blobs(), verbose=0).history["two"] == [2.0]


def test_data_sets_are_at_hand():
    assert hy.datasets.load and "datasets" in hy.__all__
    with pytest.raises(AttributeError, match="no attribute 'data_sets'"):
        hy.data_sets  # noqa: B018
