"""The base class, and one pass through compositions of stock bijectors."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import autodiff_log_det, calls_of, counted, normal, randomize

from tfp_hybrid import flow_distribution
from tfp_hybrid.bijectors import (
    ActNorm,
    AffineCoupling,
    FactorOut,
    FusedBijector,
    FusedChain,
    RealNVP,
    Squeeze,
    Steps,
    forward_and_log_det,
    inverse_and_log_det,
)
from tfp_hybrid.bijectors.one_pass import adapt, is_adapted

tfb = tfp.bijectors


class Cube(FusedBijector):
    """A bijector as the base's docstring says to write one, of scalars or of more."""

    def __init__(self, event_shape=()):
        super().__init__(event_shape, parameters=dict(locals()), name="cube")

    def _log_det(self, z):
        return tf.reduce_sum(tf.math.log(3 * z**2), axis=list(range(-self.event_shape.rank, 0)))

    def _forward_and_log_det(self, z, training=False):
        return z**3, self._log_det(z)

    def _inverse_and_log_det(self, x, training=False):
        z = tf.sign(x) * tf.abs(x) ** (1 / 3)
        return z, -self._log_det(z)


@pytest.mark.parametrize("event_shape", [(), (2,)])
def test_two_methods_make_a_bijector(event_shape):
    cube, z = Cube(event_shape), normal(5, *event_shape, dtype="float64")
    x = tf.identity(cube.forward(z))
    np.testing.assert_allclose(cube.inverse(x), z, rtol=1e-9)
    wanted = np.log(3 * z.numpy() ** 2)
    wanted = wanted.sum(-1) if event_shape else wanted
    np.testing.assert_allclose(cube.forward_log_det_jacobian(z), wanted, rtol=1e-9)
    np.testing.assert_allclose(cube.inverse_log_det_jacobian(tf.identity(x)), -wanted, rtol=1e-9)
    np.testing.assert_allclose(cube.forward_and_log_det(z)[1], wanted, rtol=1e-9)


def coupling():
    made = AffineCoupling((3,), dtype="float64")
    randomize(made.trainable_variables, scale=0.5)
    return made


COMPOSITIONS = {
    "ours": lambda flow: flow,
    "chain": lambda flow: tfb.Chain([tfb.Scale(np.float64(2)), flow, tfb.Exp()]),
    "invert": lambda flow: tfb.Invert(flow),
    "invert_chain": lambda flow: tfb.Invert(tfb.Chain([flow, tfb.Softplus()])),
    "nested": lambda flow: tfb.Chain([tfb.Chain([tfb.Invert(tfb.Invert(flow))]), tfb.Permute([2, 0, 1])]),
    "fused_chain": lambda flow: FusedChain([tfb.Chain([tfb.Invert(flow)]), tfb.Shift(np.ones(3))], (3,)),
}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_one_pass_through_a_composition(name):
    flow = coupling()
    bijector = COMPOSITIONS[name](flow)
    z = tf.abs(normal(3, dtype="float64")) + 0.1
    x = tf.identity(bijector.forward(z))
    calls = calls_of(flow.conditioner)
    for function, at, direction in (
        (forward_and_log_det, z, bijector.forward),
        (inverse_and_log_det, x, bijector.inverse),
    ):
        before = len(calls)
        value, log_det = function(bijector, tf.identity(at), training=True)
        assert len(calls) == before + 1 and calls[-1]["training"] is True
        np.testing.assert_allclose(value, direction(tf.identity(at)), rtol=1e-9)
        np.testing.assert_allclose(log_det, autodiff_log_det(direction, at), rtol=1e-8, atol=1e-9)


def test_log_prob_of_tfp_evaluates_each_conditioner_once():
    conditioner, executions = counted()
    p_x = flow_distribution(RealNVP((3,), couplings=5, conditioner=conditioner))
    executions.clear()
    p_x.log_prob(normal(4, 3))
    assert executions == dict.fromkeys(range(5), 1)
    p_x.experimental_sample_and_log_prob(4, seed=1)
    assert executions == dict.fromkeys(range(5), 2)


def test_stock_bijector_without_weights():
    z = normal(4, 3)
    x, log_det = forward_and_log_det(tfb.Exp(), z, 1)
    np.testing.assert_allclose(x, np.exp(z), rtol=1e-6)
    np.testing.assert_allclose(log_det, np.sum(z, -1), rtol=1e-5)


def test_adapt_reaches_into_compositions():
    """The ActNorms see the data as it arrives at them."""
    inner = [ActNorm((2, 2, 1)), tfb.Reshape(event_shape_out=(2, 2, 1), event_shape_in=(4,))]
    flow = tfb.Chain([tfb.Exp(), FusedChain([FactorOut(FusedChain(inner, (2, 2, 1)), (2, 2, 2))], (2, 2, 2))])
    x = tf.exp(3 + 2 * normal(100, 2, 2, 2))
    assert not is_adapted(flow)
    z = adapt(flow, x)
    assert is_adapted(flow)
    np.testing.assert_allclose(z, flow.inverse(tf.identity(x)), atol=1e-5)
    np.testing.assert_allclose(np.mean(z[:, :4]), 0, atol=1e-4)
    np.testing.assert_allclose(np.std(z[:, :4]), 1, atol=1e-4)
    assert np.std(z[:, 4:]) > 1.5
    assert is_adapted(tfb.Exp())


@pytest.mark.parametrize("wrap", [tfb.Invert, lambda flow: tfb.Invert(tfb.Chain([flow]))])
def test_inverted_act_norm_does_not_wait_for_data(wrap):
    assert is_adapted(wrap(ActNorm((2,))))


def test_bijectors_with_weights_are_equal_only_to_themselves():
    one, other = ActNorm((2,)), ActNorm((2,))
    assert one == one and one != other and len({one, other}) == 2
    one.loc.assign([5.0, 5.0])
    x = normal(3, 2)
    assert np.all(one.inverse(x) != other.inverse(x))


def test_copy_shares_the_conditioner():
    flow = coupling()
    again = flow.copy(name="again")
    z = normal(4, 3, dtype="float64")
    np.testing.assert_array_equal(again.forward(z), flow.forward(z))
    assert again.conditioner is flow.conditioner and isinstance(flow.conditioner, keras.layers.Layer)


def test_networks_are_those_of_the_bijector_itself():
    flow = coupling()
    assert flow.networks == [flow.conditioner]
    assert FusedChain([flow, ActNorm((3,))], (3,)).networks == ActNorm((3,)).networks == []


class Centred(FusedBijector):
    """A bijector with a weight and a network of its own, both of which come from what the base offers."""

    def __init__(self, network, name="centred"):
        super().__init__((3,), parameters=dict(locals()), name=name)
        self.loc = self.add_weight(tf.zeros(3), "loc")
        self.network = self.add_network(network)

    def _forward_and_log_det(self, z, training=False):
        return z + self.shift(), self.same_log_det(0.0, z)

    def _inverse_and_log_det(self, x, training=False):
        return x - self.shift(), self.same_log_det(0.0, x)

    def shift(self):
        return self.loc + self.network(tf.ones((1, 1)))[0]


def test_weights_and_networks_of_an_author():
    flow = Centred(keras.Sequential([keras.Input((1,)), keras.layers.Dense(3)]))
    assert [weight.name for weight in flow.keras_weights()] == ["loc", "kernel", "bias"]
    assert {id(weight.value) for weight in flow.keras_weights()} == {id(variable) for variable in flow.variables}
    z, x = normal(4, 3), normal(4, 3, seed=2)
    again, dx, dcondition, (dloc, dkernel, dbias) = flow.pull_back(z, x, tf.zeros(4))
    assert dcondition is None
    np.testing.assert_allclose(again, flow.forward(z), rtol=1e-6)
    np.testing.assert_array_equal(dx, x)
    for gradient in (dloc, dkernel[0], dbias):
        np.testing.assert_allclose(gradient, -np.sum(x, 0), rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: AffineCoupling((8,), "channel", True), "AffineCoupling((8,), swap=True)"),
        (lambda: Squeeze((4, 4, 1)), "Squeeze((4, 4, 1) -> (2, 2, 4))"),
        (lambda: RealNVP((4,), couplings=5), "FusedChain((4,), 3 bijectors, name='real_nvp')"),
        (lambda: Steps(lambda: ActNorm((2,)), 3, (2,), True), "Steps((2,), count=3, recompute=True)"),
    ],
)
def test_one_line_says_what_it_is(make, text):
    assert repr(make()) == str(make()) == text


def test_describe_lists_the_steps_of_a_flow():
    inner = [ActNorm((1, 1, 2)), tfb.Reshape(event_shape_out=(1, 1, 2), event_shape_in=(2,))]
    steps = Steps(lambda: ActNorm((1, 1, 4)), 5, (1, 1, 4))
    flow = FusedChain([Squeeze((2, 2, 1)), steps, FactorOut(FusedChain(inner, (1, 1, 2)), (1, 1, 4))], (2, 2, 1))
    assert flow.describe() == [
        ("squeeze", (2, 2, 1), (1, 1, 4), 0),
        ("steps (5 x act_norm)", (1, 1, 4), (1, 1, 4), 40),
        ("factor_out", (1, 1, 4), (4,), 0),
        ("act_norm", (1, 1, 2), (1, 1, 2), 4),
        ("reshape", (1, 1, 2), (2,), 0),
    ]
