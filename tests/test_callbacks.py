import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, tiny_model

from tfp_hybrid import heads
from tfp_hybrid.callbacks import StopOnNonFinite


def checkpointed(tmp_path):
    return keras.callbacks.ModelCheckpoint(tmp_path / "epoch_{epoch}.keras")


def assert_good_checkpoints(tmp_path, epochs):
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"epoch_{epoch + 1}.keras" for epoch in range(epochs)]
    model = keras.models.load_model(tmp_path / f"epoch_{epochs}.keras")
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_bad_batch_stops_training_and_the_checkpoint_before_stays(tmp_path, jit_compile):
    x, y = blobs(64)
    bad = x.copy()
    bad[40] = np.nan
    rows = tf.data.Dataset.from_tensor_slices((np.r_[x, bad], np.r_[y, y])).batch(16)
    model = tiny_model()
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


def test_label_that_turns_bad_is_told_from_the_flow():
    x, y = blobs(64)
    y = y.astype("float32")
    y[50] = np.nan
    model = tiny_model(heads.Normal())
    rows = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    with pytest.raises(FloatingPointError, match=r"step 4, in log p\(y\|x\)\. .*head diverged.*label"):
        model.fit(rows, verbose=0)


def test_several_steps_per_execution():
    x, y = blobs(64)
    x[50] = np.nan
    model = tiny_model()
    model.compile(keras.optimizers.SGD(1e-3), steps_per_execution=4)
    with pytest.raises(FloatingPointError, match="step 4"):
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(16), verbose=0)


def test_finite_losses_pass():
    callback = StopOnNonFinite()
    callback.set_model(tiny_model())
    assert callback.on_train_batch_end(0, {"loss": 1e30}) is None
    assert callback.on_epoch_end(0, {"val_loss": -1e30}) is None
