import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import normal, randomize

from tfp_hybrid import networks

CASES = {
    "mlp": (functools.partial(networks.MLP, hidden_units=(8, 6)), (3,), 5),
    "map_mlp": (functools.partial(networks.MapMLP, hidden_units=(8, 6)), (4, 6, 2), 3),
    "conv_net": (functools.partial(networks.ConvNet, hidden_units=8), (4, 6, 2), 3),
    "conv_net_position": (functools.partial(networks.ConvNet, hidden_units=8, encoding_size=4), (4, 6, 2), 3),
    "res_net": (functools.partial(networks.ResNet, hidden_units=8), (4, 6, 2), 3),
    "res_net_vector": (functools.partial(networks.ResNet, hidden_units=8, blocks=1), (3,), 4),
}
every_case = pytest.mark.parametrize("name", CASES)


def make(name, **options):
    function, shape, units = CASES[name]
    network = function(shape, units, **options)
    return network, normal(6, *shape), (6, *shape[:-1], units)


@every_case
def test_starts_at_zero_and_all_weights_exist(name):
    network, x, shape = make(name)
    count = len(network.weights)
    assert network.built and count > 0
    np.testing.assert_array_equal(network(x), np.zeros(shape))
    assert len(network.weights) == count


@every_case
def test_every_weight_gets_a_gradient_and_rows_are_independent(name):
    network, x, shape = make(name)
    randomize(network.trainable_weights)
    with tf.GradientTape() as tape:
        out = network(x)
        loss = tf.reduce_sum(out * normal(*shape, seed=4))
    gradients = tape.gradient(loss, [weight.value for weight in network.trainable_weights])
    assert all(gradient is not None and np.any(gradient) for gradient in gradients)
    np.testing.assert_allclose(network(x[2:3]), out[2:3], rtol=1e-5, atol=1e-6)
    assert np.abs(out[0] - out[1]).max() > 1e-3


@every_case
def test_dropout_only_while_training(name):
    network, x, _ = make(name, dropout=0.5)
    randomize(network.trainable_weights)
    np.testing.assert_array_equal(network(x), network(x))
    assert np.any(network(x, training=True) != network(x, training=True))
    assert make(name)[0].count_params() == network.count_params()


@every_case
def test_kernels_are_regularized(name):
    network, _, _ = make(name, kernel_regularizer=keras.regularizers.L2(0.1))
    randomize(network.trainable_weights)
    kernels = [weight for weight in network.weights if weight.name == "kernel"]
    assert len(kernels) == len(network.weights) / 2
    np.testing.assert_allclose(sum(network.losses), sum(0.1 * np.sum(k.numpy() ** 2) for k in kernels), rtol=1e-5)


@every_case
@pytest.mark.parametrize("dtype", ["float64", "mixed_bfloat16"])
def test_dtype(name, dtype):
    network, x, _ = make(name, dtype=dtype)
    assert network(x).dtype == ("float64" if dtype == "float64" else "bfloat16")
    assert {weight.dtype for weight in network.weights} == {"float64" if dtype == "float64" else "float32"}


@every_case
def test_follows_the_global_policy(name, policy):
    policy("mixed_float16")
    network, x, _ = make(name)
    assert network(x).dtype == "float16" and {weight.dtype for weight in network.weights} == {"float32"}


@every_case
def test_config_round_trip(name):
    network, x, _ = make(name, activation="tanh")
    randomize(network.trainable_weights)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    again.set_weights(network.get_weights())
    np.testing.assert_allclose(again(x), network(x), rtol=1e-6)


def test_policy_for_a_flow(policy):
    assert networks.policy_for("float64").compute_dtype == "float64"
    policy("mixed_bfloat16")
    assert networks.policy_for("float32").compute_dtype == "bfloat16"
    assert networks.policy_for("float64").compute_dtype == "float64"


def test_mlp_formula():
    network, x, _ = make("mlp", activation="tanh")
    randomize(network.trainable_weights)
    w1, b1, w2, b2, w3, b3 = network.get_weights()
    wanted = np.tanh(np.tanh(x @ w1 + b1) @ w2 + b2) @ w3 + b3
    np.testing.assert_allclose(network(x), wanted, rtol=1e-4, atol=1e-6)


def test_a_convolution_sees_positions_only_if_told_them():
    plain = np.ones((1, 8, 8, 2), "float32")
    for encoding_size, seen in ((0, False), (4, True)):
        network = networks.ConvNet((8, 8, 2), 3, hidden_units=8, encoding_size=encoding_size)
        randomize(network.trainable_weights)
        inside = np.asarray(network(plain))[0, 2:-2, 2:-2]  # what no padding reaches
        assert (np.ptp(inside, axis=(0, 1)).max() > 1e-3) == seen


def test_image_networks_see_neighbours():
    for name, reach in (("conv_net", 2), ("res_net", 3)):
        network, x, _ = make(name)
        randomize(network.trainable_weights)
        moved = x.numpy()
        moved[0, 0, 0, 0] += 10
        changed = np.any(network(moved)[0] != network(x)[0], axis=-1)
        assert changed[1, 1] and changed[reach, reach] and not changed[0, 5]


def test_a_map_mlp_sees_all_of_a_map():
    network, x, _ = make("map_mlp")
    randomize(network.trainable_weights)
    moved = x.numpy()
    moved[0, 0, 0, 0] += 10
    assert np.all(network(moved)[0] != network(x)[0])
