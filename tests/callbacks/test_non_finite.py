import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, randomize, tiny_model, weights_of

import tfp_hybrid as hy
from tfp_hybrid import heads
from tfp_hybrid.bijectors import FusedBijector, FusedChain
from tfp_hybrid.callbacks import StopOnNonFinite

BAD = 777.0  # passes all checks, and breaks what is below


class NoInverse(FusedBijector):
    """The identity, but for the inverse at BAD, which is NaN."""

    def __init__(self, event_shape, name="no_inverse"):
        super().__init__(event_shape, parameters=dict(locals()), name=name)

    def _inverse_and_log_det(self, x, training=False):
        return tf.where(x == BAD, np.nan, x), self.same_log_det(0.0, x)

    def _forward_and_log_det(self, z, training=False):
        return z, self.same_log_det(0.0, z)


class NoDensity(heads.Normal):
    """A Normal head that has no density at BAD."""

    def prepare_labels(self, y):
        y = super().prepare_labels(y)
        return tf.where(y == BAD, np.nan, y) if not tf.executing_eagerly() else y


def brittle_model():
    """A model that some inputs break."""
    keras.utils.set_random_seed(0)
    flow = FusedChain([NoInverse((2,)), hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))], (2,))
    model = hy.HybridModel(hy.flow_distribution(flow), heads.Categorical(2))
    randomize(model.trainable_weights)
    return model


def checkpointed(tmp_path):
    return keras.callbacks.ModelCheckpoint(tmp_path / "epoch_{epoch}.keras")


def assert_good_checkpoints(tmp_path, epochs):
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"epoch_{epoch + 1}.keras" for epoch in range(epochs)]
    model = keras.models.load_model(tmp_path / f"epoch_{epochs}.keras")
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


@pytest.mark.integration
@pytest.mark.parametrize("jit_compile", [False, True])
def test_bad_batch_stops_training_and_the_checkpoint_before_stays(tmp_path, jit_compile):
    x, y = blobs(64)
    bad = x.copy()
    bad[40] = BAD
    rows = tf.data.Dataset.from_tensor_slices((np.r_[x, bad], np.r_[y, y])).batch(16)
    model = brittle_model()
    model.compile(keras.optimizers.Adam(1e-3), jit_compile=jit_compile)
    with pytest.raises(FloatingPointError, match=r"became nan at step 7, in log p\(x\)\. .*the flow diverged"):
        model.fit(rows.repeat(), steps_per_epoch=4, epochs=3, callbacks=[checkpointed(tmp_path)], verbose=0)
    assert_good_checkpoints(tmp_path, 1)


def test_huge_learning_rate(tmp_path):
    x, y = blobs(64)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([8], [1e-3, 1e20])
    model = tiny_model(optimizer=keras.optimizers.SGD(schedule))
    with pytest.raises(FloatingPointError, match=r"step 1\d.*learning rate.*clipnorm"):
        model.fit(x, y, batch_size=16, epochs=9, callbacks=[checkpointed(tmp_path)], verbose=0)
    assert_good_checkpoints(tmp_path, 2)


@pytest.mark.integration
def test_label_that_turns_bad_is_told_from_the_flow():
    x, y = blobs(64)
    y = y.astype("float32")
    y[50] = BAD
    model = tiny_model(NoDensity())
    rows = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    with pytest.raises(FloatingPointError, match=r"step 4, in log p\(y\|x\)\. .*head diverged.*label"):
        model.fit(rows, verbose=0)


def test_several_steps_per_execution():
    x, y = blobs(64)
    x[50] = BAD
    model = brittle_model()
    model.compile(keras.optimizers.SGD(1e-3), steps_per_execution=4)
    with pytest.raises(FloatingPointError, match="step 4"):
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(16), verbose=0)


@pytest.mark.integration
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("cause", ["loss", "update"])
def test_weights_and_optimizer_go_back_to_the_last_good_epoch(cause, jit_compile):
    """Then training goes on from there as if nothing had been."""
    x, y = blobs(64)

    def rows(epochs):
        bad = x.copy()
        bad[40] = BAD if cause == "loss" else 1.0
        parts = [x] * epochs + [bad]
        return tf.data.Dataset.from_tensor_slices((np.concatenate(parts), np.tile(y, len(parts)))).batch(16)

    class Explode(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if cause == "update" and epoch == 2:
                self.model.optimizer.learning_rate = 1e30

    model, undisturbed = brittle_model(), brittle_model()
    for one in (model, undisturbed):
        one.compile(keras.optimizers.Adam(1e-2), jit_compile=jit_compile)
    with pytest.raises(FloatingPointError, match="restored to their state after epoch 2"):
        model.fit(rows(2), steps_per_epoch=4, epochs=3, callbacks=[Explode()], verbose=0)
    model.optimizer.learning_rate = 1e-2
    undisturbed.fit(rows(2), steps_per_epoch=4, epochs=2, verbose=0)
    assert int(model.optimizer.iterations) == int(undisturbed.optimizer.iterations) == 8
    for one in (model, undisturbed):
        one.fit(x, y, shuffle=False, verbose=0)
    for got, wanted in zip(weights_of(model), weights_of(undisturbed), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_a_bad_first_epoch_goes_back_to_before_training():
    x, y = blobs(32)
    x[20] = BAD
    model = brittle_model()
    model.compile(keras.optimizers.Adam(1e-2))
    before = weights_of(model)
    with pytest.raises(FloatingPointError, match="restored to their state before training"):
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    assert all((one == other).all() for one, other in zip(weights_of(model), before, strict=True))


def test_train_on_batch_goes_back():
    x, y = blobs(32)
    model = brittle_model()
    model.compile(keras.optimizers.Adam(1e-2))
    model.train_on_batch(x, y)
    before, moments = weights_of(model), [variable.numpy() for variable in model.optimizer.variables]
    x[20] = BAD
    with pytest.raises(FloatingPointError, match="loss became nan; weights and optimizer are as before"):
        model.train_on_batch(x, y)
    after = weights_of(model) + [variable.numpy() for variable in model.optimizer.variables]
    assert all((one == other).all() for one, other in zip(after, before + moments, strict=True))


def test_finite_losses_pass():
    callback = StopOnNonFinite()
    callback.set_model(tiny_model())
    callback.on_train_begin()
    assert callback.on_train_batch_end(0, {"loss": 1e30}) is None
    assert callback.on_epoch_end(0, {"val_loss": -1e30}) is None
