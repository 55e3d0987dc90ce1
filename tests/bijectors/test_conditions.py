"""Flows of p(x | c): what holds for bijectors given c, how the condition reaches networks, and its gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import autodiff_log_det, counted, normal, randomize

import tfp_hybrid as hy
from tfp_hybrid.bijectors import (
    ActNorm,
    AffineCoupling,
    AutoregressiveFlow,
    CircularSplineFlow,
    FusedBijector,
    FusedChain,
    Glow,
    MaskedAutoregressive,
    NeuralSplineFlow,
    Positionwise,
    RealNVP,
    SplineCoupling,
    Steps,
    inverse_and_log_det,
    transformers,
)
from tfp_hybrid.bijectors.conditions import append
from tfp_hybrid.made import MADE

tfb, tfd = tfp.bijectors, tfp.distributions

GLOW = dict(steps=2, hidden_units=4, quantization_levels=None, dtype="float64")
CASES = {
    "affine": lambda: AffineCoupling((3,), condition_shape=2, dtype="float64"),
    "checkerboard": lambda: AffineCoupling((2, 2, 1), "checkerboard", condition_shape=2, dtype="float64"),
    "spline": lambda: SplineCoupling((3,), bins=3, condition_shape=(2,), dtype="float64"),
    "autoregressive": lambda: MaskedAutoregressive(
        (3,), transformers.Affine(), True, (8,), condition_shape=2, dtype="float64"
    ),
    "one_entry": lambda: MaskedAutoregressive(
        (1,), transformers.RationalQuadraticSpline(3, 3.0), hidden_units=(8,), condition_shape=2, dtype="float64"
    ),
    "real_nvp": lambda: RealNVP(3, couplings=3, hidden_units=(8,), condition_shape=2, dtype="float64"),
    "real_nvp_image": lambda: RealNVP(
        (4, 4, 1), couplings=2, levels=1, hidden_units=4, condition_shape=(4, 4, 2), dtype="float64"
    ),
    "neural_spline_flow": lambda: NeuralSplineFlow(
        2, steps=1, bins=3, hidden_units=8, condition_shape=2, dtype="float64"
    ),
    "autoregressive_flow": lambda: AutoregressiveFlow(2, steps=3, hidden_units=8, condition_shape=2, dtype="float64"),
    "circular_spline_flow": lambda: CircularSplineFlow(
        2, steps=1, bins=3, hidden_units=4, condition_shape=2, dtype="float64"
    ),
    "glow": lambda: Glow((4, 4, 1), levels=2, condition_shape=2, **GLOW),
    "glow_map": lambda: Glow((4, 4, 1), levels=1, condition_shape=(8, 8, 1), **GLOW),
    "inverted": lambda: FusedChain(
        [tfb.Invert(AffineCoupling((3,), condition_shape=2, dtype="float64")), ActNorm((3,), "float64")], (3,)
    ),
    "stock_chain": lambda: FusedChain(
        [tfb.Chain([tfb.Softplus(), AffineCoupling((3,), condition_shape=2, dtype="float64")])], (3,)
    ),
    "positionwise": lambda: Positionwise(
        (2, 3, 2), RealNVP(2, couplings=2, hidden_units=(8,), condition_shape=2, dtype="float64")
    ),
}
RECOMPUTING = {
    "real_nvp": lambda **options: RealNVP(3, couplings=4, hidden_units=(8,), **options),
    "autoregressive": lambda **options: AutoregressiveFlow(2, steps=2, hidden_units=8, **options),
    "image": lambda **options: Glow((4, 4, 1), levels=2, steps=2, hidden_units=4, quantization_levels=None, **options),
}
_made = {}
every_case = pytest.mark.parametrize("name", CASES)


def make(name):
    """The bijector with random weights, latents and conditions of three rows."""
    if name not in _made:
        _made[name] = CASES[name]()
        randomize(_made[name].trainable_variables, scale=0.3)
    flow = _made[name]
    shapes = (flow.latent_shape, flow.condition_shape)
    return flow, *(normal(3, *shape, seed=seed, dtype="float64") for seed, shape in enumerate(shapes, 1))


@every_case
def test_round_trip_and_log_det(name):
    flow, z, c = make(name)
    x, log_det = flow.forward_and_log_det(z, condition=c)
    found, inverse_log_det = flow.inverse_and_log_det(tf.identity(x), condition=c)
    np.testing.assert_allclose(found, z, rtol=1e-8, atol=1e-8)
    for row in range(2):
        wanted = autodiff_log_det(lambda z, row=row: flow.forward(z, condition=c[row]), z[row])
        np.testing.assert_allclose(log_det[row], wanted, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(inverse_log_det[row], -wanted, rtol=1e-8, atol=1e-8)


@every_case
def test_every_weight_and_the_condition_get_a_gradient(name):
    flow, z, c = make(name)
    x = tf.identity(flow.forward(z, condition=c))
    with tf.GradientTape() as tape:
        tape.watch(c)
        z, log_det = flow.inverse_and_log_det(x, condition=c)
        loss = tf.reduce_sum(z * normal(*z.shape, seed=5, dtype="float64")) + tf.reduce_sum(log_det)
    gradients = tape.gradient(loss, (c, *flow.trainable_variables))
    assert all(gradient is not None and np.any(gradient) for gradient in gradients)


@pytest.mark.integration
@every_case
def test_graph_and_xla_agree_with_eager(name):
    flow, z, c = make(name)
    x = tf.identity(flow.forward(z, condition=c))

    def both(z, x, c):
        return flow.forward_and_log_det(z, condition=c), flow.inverse_and_log_det(x, condition=c)

    for options in ({}, {"jit_compile": True}):
        tf.nest.map_structure(
            lambda got, wanted: np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9),
            tf.function(both, autograph=False, **options)(z, x, c),
            both(z, x, c),
        )


@pytest.mark.parametrize("name", RECOMPUTING)
def test_recomputed_gradients_are_those_of_stored_activations(name):
    options = dict(condition_shape=2, dtype="float64")
    stored, recomputed = (RECOMPUTING[name](recompute=flag, **options) for flag in (False, True))
    randomize(stored.trainable_variables, scale=0.3)
    for weight, value in zip(recomputed.keras_weights(), stored.keras_weights(), strict=True):
        weight.assign(value)
    x, c = (normal(3, *shape, dtype="float64") for shape in (stored.event_shape, (2,)))
    found = []
    for flow in (stored, recomputed):
        with tf.GradientTape() as tape:
            tape.watch((x, c))
            z, log_det = flow.inverse_and_log_det(x, condition=c)
            loss = tf.reduce_sum(tf.sin(z)) + tf.reduce_sum(log_det**2)
        found.append(tape.gradient(loss, (x, c, flow.trainable_variables)))
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8), *found)


def test_shared_networks_of_a_chain_sum_gradients_of_the_condition():
    def chain():
        coupling = AffineCoupling((2,), condition_shape=1, dtype="float64")
        return FusedChain([coupling, tfb.Permute([1, 0]), coupling], (2,))

    step = chain()
    randomize(step.trainable_variables, scale=0.5)
    flow = Steps(step, 2, (2,), recompute=True)
    x, c = normal(4, 2, dtype="float64"), normal(4, 1, seed=3, dtype="float64")

    def gradient(inverse):
        with tf.GradientTape() as tape:
            tape.watch(c)
            z, log_det = inverse()
            loss = tf.reduce_sum(z**2) + tf.reduce_sum(log_det)
        return tape.gradient(loss, c)

    def twice():
        z, first = step.inverse_and_log_det(x, condition=c)
        z, second = step.inverse_and_log_det(z, condition=c)
        return z, first + second

    wanted = gradient(twice)
    np.testing.assert_allclose(gradient(lambda: flow.inverse_and_log_det(x, condition=c)), wanted, rtol=1e-9)


@pytest.mark.parametrize("builder", [RealNVP, AutoregressiveFlow, NeuralSplineFlow])
def test_density_integrates_to_one_for_each_condition(builder):
    flow = builder(2, hidden_units=8, condition_shape=2, dtype="float64")
    randomize(flow.trainable_variables, scale=0.1)
    p_x = hy.flow_distribution(flow)
    side = np.linspace(-12, 12, 301)
    points = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    densities = [p_x.prob(points, bijector_kwargs={"condition": np.array(c)}) for c in ([0.0, 0.0], [2.0, -1.0])]
    for density in densities:
        np.testing.assert_allclose(np.sum(density) * (side[1] - side[0]) ** 2, 1.0, atol=2e-3)
    assert np.abs(densities[0] - densities[1]).max() > 0.001


def test_autoregressive_is_that_of_tfp_with_a_condition():
    ours = MaskedAutoregressive((3,), transformers.Affine(1.5), hidden_units=(8,), condition_shape=2, dtype="float64")
    randomize(ours.trainable_variables, scale=0.5)

    def shift_and_log_scale(x, condition=None):
        shift, raw = tf.split(ours.conditioner(tf.concat([x, condition], -1)), 2, -1)
        return shift, 1.5 * tf.tanh(raw / 1.5)

    theirs = tfb.MaskedAutoregressiveFlow(shift_and_log_scale)
    z, c = normal(6, 3, dtype="float64"), normal(6, 2, seed=2, dtype="float64")
    np.testing.assert_allclose(ours.forward(z, condition=c), theirs.forward(z, condition=c), rtol=1e-9)
    p_z = tfd.MultivariateNormalDiag(tf.zeros(3, tf.float64))
    log_probs = [
        tfd.TransformedDistribution(p_z, flow).log_prob(z, bijector_kwargs={"condition": c}) for flow in (ours, theirs)
    ]
    np.testing.assert_allclose(*log_probs, rtol=1e-9)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("reverse", [False, True])
def test_all_outputs_of_made_see_the_condition(size, reverse):
    entries = np.repeat(np.arange(size), 2)
    network = MADE(entries, size, (16, 16), activation="softplus", reverse=reverse, condition_size=2)
    randomize(network.trainable_weights, scale=1.0)
    x = normal(1, size + 2)
    with tf.GradientTape() as tape:
        tape.watch(x)
        raw = network(x)
    seen = tape.jacobian(raw, x)[0, :, 0].numpy() != 0
    before = entries[:, np.newaxis] < np.arange(size) if reverse else entries[:, np.newaxis] > np.arange(size)
    assert (seen[:, :size] == before).all() and seen[:, size:].all()


def test_stock_chains_and_inverts_pass_the_condition_on():
    coupling = AffineCoupling((2,), condition_shape=1, dtype="float64", name="coupling")
    randomize(coupling.trainable_variables, scale=0.5)
    x, c = normal(4, 2, dtype="float64"), normal(4, 1, seed=2, dtype="float64")
    chain = tfb.Chain([tfb.Shift(tf.constant(1.0, tf.float64)), tfb.Invert(coupling)])
    wanted = coupling.forward(x - 1.0, condition=c)
    np.testing.assert_allclose(inverse_and_log_det(chain, x, condition=c)[0], wanted, rtol=1e-12)
    np.testing.assert_allclose(chain.inverse(x, invert_coupling={"condition": c}), wanted, rtol=1e-12)
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64)), chain)
    log_prob = p_x.log_prob(x, bijector_kwargs={"invert_coupling": {"condition": c}})
    np.testing.assert_allclose(hy.flows.log_prob_in_one_pass(p_x, x, condition=c), log_prob, rtol=1e-12)
    model = hy.DensityModel(p_x)
    np.testing.assert_allclose(model.log_prob({"x": x.numpy(), "condition": c.numpy()}), log_prob, rtol=1e-12)


def test_another_condition_is_not_answered_from_the_cache():
    flow, z, c = make("real_nvp")
    x = flow.forward(z, condition=c)
    assert np.abs(flow.inverse(x, condition=c + 1) - z).max() > 0.01
    assert (
        np.abs(flow.inverse_log_det_jacobian(x, condition=c + 1) + flow.forward_log_det_jacobian(z, condition=c)).max()
        > 0
    )


def test_condition_is_broadcast_to_the_batch():
    flow, z, c = make("real_nvp")
    one = flow.forward(z, condition=tf.repeat(c[:1], 3, 0))
    np.testing.assert_array_equal(flow.forward(z, condition=c[0]), one)
    np.testing.assert_array_equal(flow.forward(z, condition=c[:1]), one)
    many = tf.stack([z, 2 * z])  # (2, 3, d) with conditions (3, 2)
    for draw in range(2):
        np.testing.assert_allclose(flow.forward(many, condition=c)[draw], flow.forward(many[draw], condition=c))
    p_x = hy.flow_distribution(flow)
    draws = p_x.sample(3, seed=(1, 2), bijector_kwargs={"condition": c})
    np.testing.assert_allclose(draws, flow.forward(p_x.distribution.sample(3, seed=(1, 2)), condition=c))


@pytest.mark.parametrize("name", ["real_nvp", "autoregressive"])
@pytest.mark.parametrize("known", ["value", "condition"])
def test_batches_of_any_rank_may_be_unknown_until_the_graph_runs(name, known):
    flow, z, c = make(name)
    many, each = tf.stack([z, 2 * z]), tf.stack([c, -c])
    wanted = flow.forward(many, condition=each)
    shapes = [many.shape, [None, None, 2]] if known == "value" else [[None, None, 3], each.shape]
    signature = [tf.TensorSpec(shape, tf.float64) for shape in shapes]
    graph = tf.function(lambda z, condition: flow.forward(z, condition=condition), input_signature=signature)
    np.testing.assert_allclose(graph(many, each), wanted)


@pytest.mark.parametrize("shape", [np.int64(3), (np.int64(3),), [3]])
def test_shape_of_the_condition_may_hold_integers_of_numpy(shape):
    assert RealNVP(2, couplings=2, hidden_units=(4,), condition_shape=shape).condition_shape == (3,)


def test_networks_see_the_part_that_passes_and_the_condition():
    seen = []

    class Recorded(keras.layers.Layer):
        def __init__(self, units):
            super().__init__(dtype="float64")
            self.units = units

        def call(self, inputs):
            seen.append(inputs)
            return keras.ops.zeros((*inputs.shape[:-1], self.units), "float64")

    vector = AffineCoupling((3,), conditioner=lambda shape, units: Recorded(units), condition_shape=2, dtype="float64")
    x, c = normal(4, 3, dtype="float64"), normal(4, 2, seed=2, dtype="float64")
    vector.inverse(x, condition=c)
    np.testing.assert_array_equal(seen[-1], np.c_[x[:, :1], c])
    image = AffineCoupling(
        (2, 2, 2), conditioner=lambda shape, units: Recorded(units), condition_shape=(4, 4, 1), dtype="float64"
    )
    x, c = normal(4, 2, 2, 2, dtype="float64"), normal(4, 4, 4, 1, seed=2, dtype="float64")
    image.inverse(x, condition=c)
    blocks = c.numpy().reshape(4, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(4, 2, 2, 4)
    np.testing.assert_array_equal(seen[-1], np.concatenate([x[..., :1], blocks], -1))
    of_image = append(x, c[:, 0, 0], 3)  # the same number at each pixel
    np.testing.assert_array_equal(of_image[..., 2:], np.tile(c[:, :1, :1], (1, 2, 2, 1)))


def test_each_network_is_evaluated_once():
    network, executions = counted()
    flow = RealNVP(4, couplings=4, conditioner=network, condition_shape=2)
    executions.clear()
    flow.inverse_and_log_det(normal(3, 4), condition=normal(3, 2))
    assert sorted(executions.values()) == [1, 1, 1, 1]


def test_adapt_sees_the_condition():
    flow = FusedChain([AffineCoupling((2,), condition_shape=1), ActNorm((2,))], (2,))
    randomize(flow.trainable_variables, scale=1.0)
    c = normal(500, 1)
    z = flow.adapt(normal(500, 2) * 3 + c, c).numpy()
    np.testing.assert_allclose([z.mean(0), z.std(0)], [[0, 0], [1, 1]], atol=1e-4)


def test_a_copy_has_the_condition():
    flow, z, c = make("real_nvp")
    np.testing.assert_array_equal(flow.copy(name="other").forward(z, condition=c), flow.forward(z, condition=c))


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda f: f.inverse(tf.zeros((2, 2))),
            "`condition` is missing; wanted a tensor that ends in .3,.*bijector_kwargs",
        ),
        (lambda f: f.inverse(tf.zeros((2, 2)), condition=tf.zeros((2, 4))), r"has shape \(2, 4\); wanted .* \(3,\)"),
        (lambda f: f.forward(tf.zeros((2, 2)), condition=1.0), r"has shape \(\); wanted a shape that ends in \(3,\)"),
        (
            lambda f: f.inverse(tf.zeros((2, 2)), condition=tf.zeros((4, 3))),
            r"\(4, 3\); wanted .* broadcast to \(2, 3\)",
        ),
        (lambda f: f.inverse(tf.zeros((2, 1, 2)), condition=tf.zeros((4, 3))), r"wanted .* broadcast to \(2, 1, 3\)"),
        (lambda f: f.inverse(tf.zeros(2), condition=tf.zeros((4, 3))), r"wanted .* broadcast to \(3,\)"),
        (lambda f: ActNorm((2,)).inverse(tf.zeros((2, 2)), condition=tf.zeros(3)), "`condition` is given; wanted None"),
        (
            lambda f: FusedChain([f, AffineCoupling((2,), condition_shape=1)], (2,)),
            r"shapes \[\(1,\), \(3,\)\]; wanted one",
        ),
        (lambda f: RealNVP(2, condition_shape=(2, 2, 1)), r"`condition_shape` is \(2, 2, 1\); wanted \(k,\)\."),
        (lambda f: CircularSplineFlow(1, condition_shape=2), "wanted at least two angles with a condition"),
        (lambda f: RealNVP(2, condition_shape=0), "`condition_shape` is 0; wanted"),
        (lambda f: RealNVP(2, condition_shape=3.0), r"`condition_shape` is 3.0; wanted \(k,\)"),
        (lambda f: RealNVP(2, condition_shape=()), r"`condition_shape` is \(\); wanted"),
        (
            lambda f: Glow((4, 4, 1), condition_shape=(3, 3, 1)),
            r"`condition_shape` is \(3, 3, 1\), but the networks see",
        ),
        (
            lambda f: Glow((4, 4, 1), condition_shape=(8, 4, 1)),
            r"`condition_shape` is \(8, 4, 1\), but the networks see",
        ),
    ],
)
def test_errors(call, message):
    flow = RealNVP(2, couplings=2, hidden_units=(4,), condition_shape=3)
    with pytest.raises(ValueError, match=message):
        call(flow)


def test_a_bijector_of_the_user_has_a_condition():
    class Shift(FusedBijector):
        def __init__(self, event_shape, name="shift_by_condition"):
            super().__init__(event_shape, condition_shape=event_shape, parameters=dict(locals()), name=name)

        def _forward_and_log_det(self, z, training=False, condition=None):
            return z + condition, self.same_log_det(tf.zeros((), z.dtype), z)

        def _inverse_and_log_det(self, x, training=False, condition=None):
            return x - condition, self.same_log_det(tf.zeros((), x.dtype), x)

    flow = FusedChain([ActNorm((2,)), Shift((2,))], (2,))
    x, c = normal(3, 2), normal(3, 2, seed=2)
    np.testing.assert_allclose(flow.inverse(x, condition=c), x - c, rtol=1e-6)
    p_x = hy.flow_distribution(flow)
    wanted = tfd.MultivariateNormalDiag(c).log_prob(x)
    np.testing.assert_allclose(p_x.log_prob(x, bijector_kwargs={"condition": c}), wanted, rtol=1e-5)


def test_the_inverse_of_a_flow_has_a_latent_of_its_own():
    flow = tfb.Invert(RealNVP(2, couplings=2, hidden_units=(4,), condition_shape=1))
    p_x, c = hy.flow_distribution(flow), normal(3, 1)
    x = p_x.sample(3, seed=(0, 1), bijector_kwargs={"condition": c})
    assert x.shape == (3, 2) and p_x.log_prob(x, bijector_kwargs={"condition": c}).shape == (3,)
    assert repr(flow.bijector) == "FusedChain((2,) | (1,), 1 bijector, name='real_nvp')"
