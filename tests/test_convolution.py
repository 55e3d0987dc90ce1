"""Our `CouplingConv2D`, against that of Keras with the same weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import normal

from tfp_hybrid.convolution import FEW_CHANNELS, CouplingConv2D

DTYPES = {"float64": 1e-10, "float32": 1e-4}
# Channels in and out, and the size of the kernel.
SIZES = [(1, 12, 3), (2, 12, 3), (4, 5, 3), (12, 2, 3), (12, 12, 3), (3, 8, 1), (8, 3, 1), (2, 6, 5), (6, 2, (3, 1))]
ACTIVATIONS = [None, "relu", "tanh"]
FALLBACKS = {
    "strides": dict(strides=2),
    "valid": dict(padding="valid"),
    "no bias": dict(use_bias=False),
    "dilation": dict(dilation_rate=2),
    "groups": dict(groups=2),
    "even kernel": dict(kernel_size=2),
}


def pair(channels, filters, kernel_size=3, dtype="float64", **options):
    """Our layer and Keras', with the same random weights."""
    options = dict(kernel_size=kernel_size, padding="same", dtype=dtype) | options
    layers = CouplingConv2D(filters, **options), keras.layers.Conv2D(filters, **options)
    for layer in layers:
        layer.build((None, None, None, channels))
        layer.set_weights([normal(*w.shape, seed=i, dtype=w.dtype) for i, w in enumerate(layer.weights)])
    return layers


def output_and_gradients(layer, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y * normal(*y.shape, seed=7, dtype=y.dtype))
    return [y, *tape.gradient(loss, [x, *(weight.value for weight in layer.weights)])]


def assert_same(got, wanted, tolerance):
    """Up to rounding in sums of as many terms as there are."""
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize("sides", [(4, 6), (5, 7), (4, 5), (2, 2), (1, 1)])
@pytest.mark.parametrize(("channels", "filters", "kernel_size"), SIZES)
def test_equals_that_of_keras(sides, channels, filters, kernel_size):
    ours, stock = pair(channels, filters, kernel_size)
    x = normal(3, *sides, channels, dtype="float64")
    assert_same(output_and_gradients(ours, x), output_and_gradients(stock, x), 1e-10)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("channels", "filters"), [(2, 12), (12, 2)])
def test_activations_and_dtypes(activation, dtype, channels, filters):
    ours, stock = pair(channels, filters, dtype=dtype, activation=activation)
    x = normal(3, 6, 4, channels, dtype=dtype)
    assert_same(output_and_gradients(ours, x), output_and_gradients(stock, x), DTYPES[dtype])


@pytest.mark.parametrize("name", FALLBACKS)
def test_whatever_else_keras_offers(name):
    ours, stock = pair(4, 6, **FALLBACKS[name])
    x = normal(3, 6, 8, 4, dtype="float64")
    assert_same(output_and_gradients(ours, x), output_and_gradients(stock, x), 1e-10)


def test_mixed_precision():
    ours, stock = pair(2, 12, dtype="mixed_bfloat16", activation="relu")
    x = normal(3, 6, 4, 2)
    got, wanted = output_and_gradients(ours, x), output_and_gradients(stock, x)
    assert got[0].dtype == "bfloat16" and [part.dtype for part in got[1:]] == 3 * [tf.float32]
    for one, other in zip(got, wanted, strict=True):
        assert np.linalg.norm(tf.cast(one - other, "float32")) < 0.02 * np.linalg.norm(tf.cast(other, "float32"))


@pytest.mark.parametrize("shape", [(None, 6, 4, 2), (None, None, None, 2), (3, None, 4, 2), (None, 6, None, 2)])
@pytest.mark.parametrize("filters", [2, 12])
def test_sizes_unknown_in_the_graph(shape, filters):
    ours, stock = pair(2, filters, activation="relu")
    x = normal(3, 6, 4, 2, dtype="float64")

    def squared(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y**2)
        return [y, *tape.gradient(loss, [x, *(weight.value for weight in layer.weights)])]

    graph = tf.function(lambda x: squared(ours, x), autograph=False, input_signature=[tf.TensorSpec(shape, "float64")])
    assert_same(graph(x), squared(stock, x), 1e-10)


@pytest.mark.parametrize(("channels", "filters", "kernel_size"), [(2, 12, 3), (12, 2, 3), (4, 6, 1)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_xla_agrees(channels, filters, kernel_size, activation):
    ours, stock = pair(channels, filters, kernel_size, activation=activation)
    x = normal(3, 6, 4, channels, dtype="float64")
    compiled = tf.function(lambda x: output_and_gradients(ours, x), autograph=False, jit_compile=True)
    assert_same(compiled(x), output_and_gradients(stock, x), 1e-10)


def slow_kernels(layer, x):
    """Convolutions to few channels among those that compute the output and the gradients."""
    graph = tf.function(output_and_gradients, autograph=False).get_concrete_function(layer, x).graph
    slow, seen = [], set()
    for op in graph.get_operations():
        seen.add(op.type)
        if op.type == "Conv2D":
            slow += [op.type] * (op.inputs[1].shape[3] < FEW_CHANNELS)
        elif op.type == "Conv2DBackpropInput":
            slow += [op.type] * (op.inputs[1].shape[2] < FEW_CHANNELS)
        elif op.type == "Conv2DBackpropFilter":
            slow += [op.type] * (op.inputs[0].shape[3] > op.inputs[2].shape[3])
    assert {"Conv2D", "Conv2DBackpropFilter"} <= seen
    return slow


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU gets the usual kernels")
@pytest.mark.parametrize(("channels", "filters"), [(1, 12), (3, 12), (12, 3), (12, 1)])
def test_no_convolution_is_to_few_channels(channels, filters):
    ours, stock = pair(channels, filters)
    x = normal(3, 6, 4, channels, dtype="float64")
    assert not slow_kernels(ours, x) and slow_kernels(stock, x)


def second_order(layer, x):
    """Gradients of the squared norm of a gradient, as in a gradient penalty."""
    weights = [weight.value for weight in layer.weights]
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            loss = tf.reduce_sum(layer(x) ** 3)
        penalty = sum(tf.reduce_sum(part**2) for part in inner.gradient(loss, [x, *weights]))
    return outer.gradient(penalty, [x, *weights])


@pytest.mark.parametrize(("channels", "filters", "kernel_size"), [(2, 12, 3), (12, 2, 3), (6, 6, 3), (8, 3, 1)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("graph", [False, True])
def test_second_order_gradients(channels, filters, kernel_size, activation, graph):
    ours, stock = pair(channels, filters, kernel_size, activation=activation)
    x = normal(2, 4, 6, channels, dtype="float64")
    function = tf.function(second_order, autograph=False) if graph else second_order
    assert_same(function(ours, x), second_order(stock, x), 1e-10)


def test_saved_and_loaded(tmp_path):
    model = keras.Sequential(
        [keras.Input((4, 6, 2)), CouplingConv2D(8, 3, padding="same", activation="relu"), CouplingConv2D(3, 1)]
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [CouplingConv2D, CouplingConv2D]
    x = normal(3, 4, 6, 2)
    np.testing.assert_array_equal(loaded(x), model(x))


def test_config_is_that_of_keras():
    options = dict(padding="same", activation="tanh", kernel_regularizer="l2", name="layer")
    ours, stock = CouplingConv2D(8, (3, 5), **options), keras.layers.Conv2D(8, (3, 5), **options)
    assert ours.get_config() == stock.get_config()
    assert CouplingConv2D.from_config(ours.get_config()).get_config() == ours.get_config()
