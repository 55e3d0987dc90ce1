"""Affine maps of the channels, folded into one, against the same one after the other."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import autodiff_log_det, normal, randomize

from tfp_hybrid.bijectors import ActNorm, AffineCoupling, FusedChain, InvertibleLinear
from tfp_hybrid.bijectors.channel_affine import Folded, folded
from tfp_hybrid.bijectors.one_pass import chain_forward_and_log_det, chain_inverse_and_log_det

tfb = tfp.bijectors
RUNS = {
    "glow": [ActNorm, InvertibleLinear],
    "turned": [InvertibleLinear, ActNorm],
    "norms": [ActNorm, ActNorm],
    "matrices": [InvertibleLinear, InvertibleLinear],
    "many": [ActNorm, InvertibleLinear, ActNorm, InvertibleLinear, ActNorm],
}
SHAPES = [(4,), (2, 3, 4), (2, 2, 1)]
every_run = pytest.mark.parametrize("name", RUNS)
every_shape = pytest.mark.parametrize("shape", SHAPES)


def run_of(name, shape):
    """The bijectors of a run, with random weights."""
    bijectors = [cls(shape, "float64") for cls in RUNS[name]]
    for seed, bijector in enumerate(bijectors):
        randomize(bijector.keras_weights(), seed, scale=0.5)
    return bijectors


def all_of(function, at, bijectors):
    """Value, log-det and gradients."""
    variables = [variable for bijector in bijectors for variable in bijector.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(at)
        value, log_det = function(at)
        loss = tf.reduce_sum(value * normal(*value.shape, seed=5, dtype="float64")) + tf.reduce_sum(log_det**2)
    return [value, log_det, *tape.gradient(loss, [at, *variables])]


def assert_same(got, wanted):
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


@every_run
@every_shape
def test_folded_equals_one_after_the_other(name, shape):
    bijectors = run_of(name, shape)
    chain, x = FusedChain(bijectors, shape), normal(5, *shape, dtype="float64")
    rank = len(shape)
    wanted = all_of(lambda x: chain_inverse_and_log_det(bijectors, x, rank), x, bijectors)
    assert_same(all_of(chain.inverse_and_log_det, x, bijectors), wanted)
    wanted = all_of(lambda z: chain_forward_and_log_det(bijectors, z, rank), x, bijectors)
    assert_same(all_of(chain.forward_and_log_det, x, bijectors), wanted)


@every_shape
def test_the_folded_map_in_numpy(shape):
    norm, linear = run_of("glow", shape)
    x = normal(5, *shape, dtype="float64")
    z, log_det = Folded([norm, linear]).inverse_and_log_det(x)
    matrix = linear.matrix().numpy()
    np.testing.assert_allclose(z, (x - norm.loc.numpy()) / np.exp(norm.log_scale.numpy()) @ matrix, rtol=1e-10)
    of_channels = np.linalg.slogdet(matrix)[1] - norm.log_scale.numpy().sum()
    np.testing.assert_allclose(log_det, np.full(5, np.prod(shape[:-1]) * of_channels), rtol=1e-10)


def test_log_det_is_that_of_the_jacobian():
    chain, x = FusedChain(run_of("many", (2, 1, 3)), (2, 1, 3)), normal(2, 1, 3, dtype="float64")
    wanted = autodiff_log_det(chain.inverse, x)
    np.testing.assert_allclose(chain.inverse_and_log_det(x)[1], wanted, rtol=1e-10)


def test_only_runs_of_several_are_folded():
    shape = (4,)
    norm, linear, coupling, last = ActNorm(shape), InvertibleLinear(shape), AffineCoupling(shape), ActNorm(shape)
    stock = tfb.Permute([3, 2, 1, 0])
    chain = [norm, linear, coupling, last, stock, norm]
    first, *others = folded(chain)
    assert isinstance(first, Folded) and first.bijectors == [norm, linear]
    assert others == chain[2:]
    assert folded([coupling]) == [coupling]


def test_a_folded_chain_multiplies_x_once():
    """That is what folding is for: of x, not of the small matrices, there is one product and one sum."""
    chain, rows = FusedChain([ActNorm((4,)), InvertibleLinear((4,)), ActNorm((4,))], (4,)), 11
    graph = tf.function(chain.inverse_and_log_det, autograph=False).get_concrete_function(tf.zeros((rows, 4))).graph
    large = [op.type for op in graph.get_operations() if op.outputs and op.outputs[0].shape == (rows, 4)]
    assert sorted(set(large) - {"Placeholder", "Reshape", "Identity"}) == ["BiasAdd", "MatMul"]
    assert large.count("MatMul") == large.count("BiasAdd") == 1


def test_the_chain_keeps_its_bijectors_and_weights():
    bijectors = run_of("glow", (4,))
    chain = FusedChain(bijectors, (4,))
    assert chain.bijectors == bijectors
    wanted = {id(variable) for bijector in bijectors for variable in bijector.variables}
    assert {id(variable) for variable in chain.variables} == wanted and len(chain.variables) == len(wanted)
    bijectors[0].loc.assign(bijectors[0].loc + 1.0)  # the fold follows the weights
    x = normal(3, 4, dtype="float64")
    np.testing.assert_allclose(chain.inverse(x), bijectors[1].inverse(bijectors[0].inverse(x)), rtol=1e-10)


def test_adapt_reaches_a_norm_in_a_fold():
    norm, linear = ActNorm((3,)), InvertibleLinear((3,))
    chain, x = FusedChain([norm, linear], (3,)), 5 * normal(200, 3) + 2
    assert not chain.is_adapted()
    chain.adapt(x)
    assert chain.is_adapted()
    np.testing.assert_allclose(np.mean(norm.inverse(x), 0), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(norm.inverse(x), 0), 1, atol=1e-4)
