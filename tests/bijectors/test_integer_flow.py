"""Integer flows are bijections of integers, exactly; enumerated, since a discrete map has no Jacobian."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal, parts, randomize

import tfp_hybrid as hy
from tfp_hybrid.bijectors import Coupling, FactorOut, FusedChain, IntegerFlow, Lattice, Squeeze, transformers

tfb = tfp.bijectors
FLOWS = {
    "vector": lambda **options: IntegerFlow(2, steps=3, levels=1, quantization_levels=8, hidden_units=8, **options),
    "levels": lambda **options: IntegerFlow((4,), steps=2, levels=2, quantization_levels=4, hidden_units=8, **options),
    "image": lambda **options: IntegerFlow((2, 2, 1), levels=1, quantization_levels=3, hidden_units=8, **options),
    "many_levels": lambda **options: IntegerFlow((2,), levels=1, quantization_levels=40, hidden_units=8, **options),
}
every_flow = pytest.mark.parametrize("name", FLOWS)
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


def random_flow(name, scale=0.3, **options):
    keras.utils.set_random_seed(0)
    flow = FLOWS[name](**options)
    randomize(flow.trainable_variables, scale=scale)
    return flow


def all_inputs(flow, least=0, most=0):
    """Every x with entries from `least` to the highest level and `most` more."""
    size = flow.event_shape.num_elements()
    values = range(least, flow.bijectors[0].quantization_levels + most)
    return np.array(list(itertools.product(values, repeat=size))).reshape(-1, *flow.event_shape)


@every_flow
@both_dtypes
def test_it_is_a_bijection_of_integers(name, dtype):
    flow = random_flow(name, dtype=dtype)
    x = all_inputs(flow)
    z, log_det = flow.inverse_and_log_det(x)
    step = flow.bijectors[0].step
    assert z.dtype == dtype and step == (0.5 if name == "many_levels" else 1.0)
    np.testing.assert_array_equal(z / step, np.rint(z / step))
    np.testing.assert_array_equal(log_det, np.zeros(len(x)))
    assert len(np.unique(z, axis=0)) == len(x)
    assert (np.sort(z.numpy().ravel()) != np.sort(x.ravel() * step)).any()
    np.testing.assert_array_equal(flow.forward(tf.identity(z)), x)


@every_flow
def test_it_is_one_of_integers_out_of_range_too(name):
    """Without the part that clips draws, in both orders."""
    flow = random_flow(name)
    inner = FusedChain(flow.bijectors[1:], flow.event_shape)
    step = flow.bijectors[0].step
    x = step * all_inputs(flow, -2, 2).astype("float32")
    np.testing.assert_array_equal(inner.forward(tf.identity(inner.inverse(x))), x)
    z = x.reshape(len(x), -1)
    np.testing.assert_array_equal(inner.inverse(tf.identity(inner.forward(z))), z)


@both_dtypes
@pytest.mark.parametrize("levels", [2, 17, 32, 33, 256, 65536])
def test_the_lattice_is_exact(dtype, levels):
    lattice = Lattice((1,), levels, dtype)
    x = np.arange(levels)[:, np.newaxis]
    z = lattice.inverse(x).numpy()
    assert z.dtype == dtype and z.max() < 32 and np.log2(lattice.step) == int(np.log2(lattice.step))
    np.testing.assert_array_equal(np.diff(z, axis=0), np.full((levels - 1, 1), lattice.step))
    np.testing.assert_array_equal(lattice.forward(tf.identity(z)), x)
    np.testing.assert_array_equal(lattice.forward([[-3.0], [1e6]]), [[0], [levels - 1]])


def test_rounding_passes_the_gradient_of_an_additive_coupling():
    raw, x, dz = normal(6, 3) * 5, normal(6, 3, seed=2), normal(6, 3, seed=3)
    found = []
    for transformer in (transformers.Rounded(0.5), transformers.Additive()):
        with tf.GradientTape() as tape:
            tape.watch((raw, x))
            z, log_det = transformer.inverse(x, raw, 1)
        found.append((z, tape.gradient(z, (raw, x), dz)))
    (z, rounded), (_, plain) = found
    np.testing.assert_array_equal(log_det, np.zeros(6))
    np.testing.assert_array_equal(z, x - np.rint(raw * 2) / 2)
    for one, other in zip(rounded, plain, strict=True):
        np.testing.assert_array_equal(one, other)


@every_flow
@pytest.mark.parametrize("recompute", [False, True])
def test_every_weight_gets_a_gradient(name, recompute):
    flow = random_flow(name, recompute=recompute, dtype="float64")
    x, weights = all_inputs(flow)[::7], flow.trainable_variables
    with tf.GradientTape() as tape:
        z = flow.inverse_and_log_det(x)[0]
        loss = tf.reduce_sum(z * normal(*z.shape, dtype="float64"))
    assert len(weights) > 0
    for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
        assert gradient is not None and np.isfinite(gradient).all() and np.any(gradient), weight.name


def test_recomputation_changes_neither_values_nor_gradients():
    found = []
    for recompute in (False, True):
        flow = random_flow("image", recompute=recompute, dtype="float64")
        with tf.GradientTape() as tape:
            z = flow.inverse_and_log_det(all_inputs(flow))[0]
            loss = tf.reduce_sum(z**2)
        found.append((z, tape.gradient(loss, flow.trainable_variables)))
    (z, plain), (again, recomputed) = found
    np.testing.assert_array_equal(z, again)
    for one, other in zip(plain, recomputed, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.integration
@every_flow
def test_graph_and_xla_agree_with_eager(name):
    flow = random_flow(name, dtype="float64")
    x = all_inputs(flow)
    z = tf.identity(flow.inverse(x))
    for options in ({}, {"jit_compile": True}):
        compiled = tf.function(lambda x, z: (flow.inverse_and_log_det(x)[0], flow.forward(z)), **options)
        found = compiled(tf.constant(x), z)
        np.testing.assert_array_equal(found[0], z)
        np.testing.assert_array_equal(found[1], x)


@pytest.mark.parametrize("name", ["vector", "levels"])
def test_probabilities_of_all_integers_sum_to_one(name):
    """Of integers below 0 and above the highest level, too, which the flow can also draw before they are clipped."""
    flow = random_flow(name, 0.1, dtype="float64")
    latent = hy.latents.LatticeMixture(flow.level_sizes(), 4, hidden_units=(8,), dtype=tf.float64)
    randomize(latent.trainable_variables, scale=0.03)  # so that hardly any mass is outside of the window
    p_x = hy.flow_distribution(flow, latent)
    edge = 50 if name == "vector" else 9
    total = sum(np.exp(p_x.log_prob(x)).sum() for x in np.array_split(all_inputs(flow, -edge, edge), 20))
    assert total == pytest.approx(1, abs=1e-9 if name == "vector" else 1e-4)


def test_counts():
    flow = IntegerFlow((8, 4, 3), steps=2, levels=2, hidden_units=4)
    kinds = [type(part) for part in parts(flow)]
    assert kinds.count(Coupling) == 4 and kinds.count(Squeeze) == 2 and kinds.count(FactorOut) == 6
    assert kinds.count(tfb.Permute) == 4 and kinds[0] is Lattice
    assert flow.level_sizes() == [24, 24, 24, 6, 6, 6, 6] and flow.latent_shape == (96,)
    vector = IntegerFlow(9, steps=3, levels=3, hidden_units=4)
    assert vector.level_sizes() == [4, 2, 3] and [type(part) for part in parts(vector)].count(Coupling) == 9


@pytest.mark.parametrize("size", [2, 4, 7, 12])
def test_the_permutation_takes_each_entry_to_every_place(size):
    flow = IntegerFlow(size, steps=1, levels=1, hidden_units=4)
    (permute,) = [part for part in parts(flow) if isinstance(part, tfb.Permute)]
    place, seen = 0, set()
    for _ in range(size):
        place = int(np.asarray(permute.permutation)[place])
        seen.add(place)
    assert seen == set(range(size))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(event_shape=(1,)), r"`event_shape` is \(1,\) and `levels` is 2; wanted at least 4 entries"),
        (dict(event_shape=(4,), levels=3), r"`event_shape` is \(4,\) and `levels` is 3; wanted at least 8 entries"),
        (dict(event_shape=(6, 6, 1)), r"wanted sides that are divisible by 2\*\*levels = 4"),
        (dict(event_shape=(4, 4)), r"`event_shape` is \(4, 4\); wanted \(H, W, C\)"),
        (dict(event_shape=(4,), steps=0), "`steps` is 0; wanted a whole number, at least 1"),
        (dict(event_shape=(4,), levels=0), "`levels` is 0; wanted a whole number, at least 1"),
        (dict(event_shape=(4,), quantization_levels=1), "Lattice: `quantization_levels` is 1; wanted"),
        (dict(event_shape=(4,), quantization_levels=None), "Lattice: `quantization_levels` is None; wanted"),
        (dict(event_shape=(4,), conditioner=keras.layers.Dense(1)), "wanted a function"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        IntegerFlow(**arguments)


@pytest.mark.parametrize("step", [0.3, 0, -1.0, "a", float("nan"), float("inf")])
def test_a_step_that_is_not_exact_is_refused(step):
    with pytest.raises(ValueError, match="Rounded: `step` is .*; wanted a power of two"):
        transformers.Rounded(step)
