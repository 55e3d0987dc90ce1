"""HybridModel under everything that Keras' `fit` offers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, parts, randomize, tiny_model, weights_of

import tfp_hybrid as hy

pytestmark = pytest.mark.integration


def step_of(x, y, rate=1.0, **kwargs):
    """The weights after one step of plain gradient descent on all rows, from the same start."""
    model = tiny_model(optimizer=keras.optimizers.SGD(rate))
    model.fit(x, y, batch_size=len(x), shuffle=False, verbose=0, **kwargs)
    return weights_of(model)


def assert_same(got, wanted, tolerance=1e-5):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def assert_differ(got, wanted):
    assert any(np.abs(one - other).max() > 1e-3 for one, other in zip(got, wanted, strict=True))


def test_sample_weight_two_is_a_row_twice():
    """Keras divides by the number of rows, so the rates are per row."""
    x, y = blobs(8)
    twice = np.r_[0:8, 0:4]
    weighted = step_of(x, y, 0.8, sample_weight=np.r_[np.full(4, 2.0), np.ones(4)])
    assert_same(weighted, step_of(x[twice], y[twice], 1.2))
    assert_differ(weighted, step_of(x, y, 0.8))


def test_sample_weight_zero_drops_a_row():
    x, y = blobs(8)
    weighted = step_of(x, y, 0.8, sample_weight=np.r_[np.zeros(3), np.ones(5)])
    assert_same(weighted, step_of(x[3:], y[3:], 0.5))


def test_class_weight_is_a_sample_weight():
    x, y = blobs(16)
    assert_same(step_of(x, y, class_weight={0: 0.5, 1: 3.0}), step_of(x, y, sample_weight=np.where(y, 3.0, 0.5)))


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.rows = x, y

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return tuple(part[16 * index : 16 * index + 16] for part in self.rows)


SOURCES = {
    "arrays": lambda x, y: dict(x=x, y=y, batch_size=16),
    "float64": lambda x, y: dict(x=x.astype("float64"), y=y, batch_size=16),
    "column": lambda x, y: dict(x=x, y=y[:, None], batch_size=16),
    "tensors": lambda x, y: dict(x=tf.constant(x), y=tf.constant(y), batch_size=16),
    "tf.data": lambda x, y: dict(x=tf.data.Dataset.from_tensor_slices((x, y)).batch(16)),
    "PyDataset": lambda x, y: dict(x=Batches(x, y)),
    "generator": lambda x, y: dict(x=(Batches(x, y)[i] for i in range(4)), steps_per_epoch=4),
    "steps_per_execution": lambda x, y: dict(x=x, y=y, batch_size=16),
}


@pytest.fixture(scope="module")
def by_hand():
    """The weights after four steps of gradient descent on four batches, by a loop in plain TensorFlow."""
    x, y = blobs(64)
    model = tiny_model()
    for batch in np.split(np.arange(64), 4):
        with tf.GradientTape() as tape:
            log_prob_y = model.head(model.flow.inverse(tf.constant(x[batch]))).log_prob(y[batch])
            loss = -tf.reduce_mean(log_prob_y + model.distribution.log_prob(x[batch]))
        variables = [weight.value for weight in model.trainable_weights]
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(0.1 * gradient)
    return weights_of(model)


@pytest.mark.parametrize("source", SOURCES)
def test_sources_of_data(source, by_hand):
    model = tiny_model(optimizer=keras.optimizers.SGD(0.1))
    if source == "steps_per_execution":
        model.compile(keras.optimizers.SGD(0.1), steps_per_execution=2)
    model.fit(**SOURCES[source](*blobs(64)), shuffle=False, verbose=0)
    assert_same(weights_of(model), by_hand)
    assert int(model.optimizer.iterations) == 4


@pytest.mark.parametrize("jit_compile", [True, False, "auto"])
def test_jit_compile(jit_compile, by_hand):
    model = tiny_model(compile=False)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=jit_compile)
    model.fit(*blobs(64), batch_size=16, shuffle=False, verbose=0)
    assert_same(weights_of(model), by_hand, 1e-4)


def test_source_with_rows_per_epoch_unknown():
    x, y = blobs(64)
    rows = tf.data.Dataset.from_tensor_slices((x, y)).repeat().batch(16)
    model = tiny_model()
    model.fit(rows, steps_per_epoch=3, epochs=2, validation_data=rows, validation_steps=1, verbose=0)
    assert int(model.optimizer.iterations) == 6


@pytest.mark.parametrize("kind", ["validation_data", "validation_split", "tf.data"])
def test_validation(kind):
    x, y = blobs(64)
    rows = tf.data.Dataset.from_tensor_slices((x[48:], y[48:])).batch(8)
    options = {
        "validation_data": dict(x=x[:48], y=y[:48], validation_data=(x[48:], y[48:])),
        "validation_split": dict(x=x, y=y, validation_split=0.25),
        "tf.data": dict(x=x[:48], y=y[:48], validation_data=rows),
    }[kind]
    model = tiny_model()
    model.compile(keras.optimizers.Adam(1e-2), metrics=["sparse_categorical_accuracy"])
    history = model.fit(**options, epochs=2, verbose=0).history
    after = model.evaluate(x[48:], y[48:], return_dict=True, verbose=0)
    assert {"val_loss", "val_nll", "val_log_prob_x", "val_accuracy", "val_sparse_categorical_accuracy"} <= set(history)
    for key, value in after.items():
        np.testing.assert_allclose(history[f"val_{key}"][-1], value, rtol=1e-5)


def test_callbacks_see_every_epoch_and_stop(tmp_path):
    x, y = blobs(64)
    seen = []
    callbacks = [
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["val_loss"])),
        keras.callbacks.EarlyStopping("val_log_prob_x", mode="max", min_delta=1e9, patience=1),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    tiny_model().fit(x, y, epochs=9, validation_data=(x, y), callbacks=callbacks, verbose=0)
    assert len(seen) == 2
    assert "log_prob_x" in (tmp_path / "log.csv").read_text()


def test_one_callback_without_a_list():
    epochs = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    tiny_model().fit(*blobs(), callbacks=callback, verbose=0)
    assert epochs == [0]


def test_clipnorm_bounds_each_step():
    model = tiny_model(optimizer=keras.optimizers.SGD(1.0, global_clipnorm=0.01))
    before = weights_of(model)
    model.fit(*blobs(64), batch_size=64, verbose=0)
    square = sum(np.sum((new - old) ** 2) for new, old in zip(weights_of(model), before, strict=True))
    np.testing.assert_allclose(np.sqrt(square), 0.01, rtol=1e-3)


@pytest.mark.parametrize("name", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.nightly)])
@pytest.mark.parametrize("kind", ["vector", pytest.param("image", marks=pytest.mark.integration)])
def test_mixed_precision(policy, name, kind):
    rng = np.random.default_rng(0)
    images = (rng.integers(4, size=(32, 4, 4, 1)), rng.integers(3, size=32))

    def trained():
        keras.utils.set_random_seed(0)
        x, y = blobs(32) if kind == "vector" else images
        model = tiny_model() if kind == "vector" else integer_model()
        before = model.log_prob(x)
        history = model.fit(x, y, batch_size=16, epochs=3, verbose=0).history
        return model, before, history

    _, wanted, wanted_history = trained()
    policy(name)
    model, log_prob, history = trained()
    couplings = [part for part in parts(model.flow) if isinstance(part, hy.bijectors.AffineCoupling)]
    computes = {layer.compute_dtype for coupling in couplings for layer in coupling.conditioner.layers}
    assert computes == {name.removeprefix("mixed_")}
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    size = 2 if kind == "vector" else 16
    np.testing.assert_allclose(log_prob, wanted, atol=0.05 * size)
    assert np.abs(log_prob - wanted).max() > 0  # the networks did compute in 16 bits
    same = slice(1 if name == "mixed_float16" else None)  # its first loss scale may be too large, and skip a step
    np.testing.assert_allclose(history["loss"][same], wanted_history["loss"][same], atol=0.05 * size)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == (name == "mixed_float16")


@pytest.mark.parametrize("name", ["mixed_bfloat16", "mixed_float16"])
def test_step_in_mixed_precision_is_that_of_float32(policy, name):
    """The loss scale of float16 cancels out."""
    x, y = blobs(16)
    start, wanted = weights_of(tiny_model()), step_of(x, y)
    policy(name)
    got = step_of(x, y)
    steps = np.concatenate([(end - begin).ravel() for begin, end in zip(start, wanted, strict=True)])
    error = np.concatenate([(one - other).ravel() for one, other in zip(got, wanted, strict=True)])
    assert np.linalg.norm(error) < 0.1 * np.linalg.norm(steps)


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("kind", ["vector", "image"])
def test_training_repeats_with_the_seed(jit_compile, kind):
    """Initial weights, dropout, shuffling and dequantization noise follow `set_random_seed`."""

    def trained(seed):
        keras.utils.set_random_seed(seed)
        rng = np.random.default_rng(0)
        if kind == "vector":
            conditioner = lambda shape, units: hy.networks.MLP(shape, units, (8,), dropout=0.3)  # noqa: E731
            flow = hy.bijectors.RealNVP((2,), couplings=2, conditioner=conditioner)
            (x, y), head = blobs(32), hy.heads.Categorical(2)
        else:
            flow = hy.bijectors.Glow((2, 2, 1), levels=1, steps=1, hidden_units=4, quantization_levels=4)
            x, y, head = rng.integers(4, size=(32, 2, 2, 1)), rng.integers(2, size=32), hy.heads.Categorical(2)
        model = hy.HybridModel(hy.flow_distribution(flow), head)
        randomize(model.trainable_weights)
        model.compile(keras.optimizers.Adam(0.01), jit_compile=jit_compile)
        model.fit(x, y, batch_size=8, epochs=2, verbose=0)
        return [weight.numpy() for weight in model.trainable_weights]

    first = trained(1)
    assert_same(trained(1), first, 1e-6)
    assert_differ(trained(2), first)


def test_distributed_over_two_devices(by_hand):
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(devices, tf.distribute.ReductionToOneDevice())
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        model = tiny_model(optimizer=keras.optimizers.SGD(0.1))
    model.fit(tf.data.Dataset.from_tensor_slices(blobs(64)).batch(16), verbose=0)
    assert_same(weights_of(model), by_hand)
