"""`LatticeMixture` against stock TFP, sums over all integers, and closed forms of its tails."""

import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import randomize

import tfp_hybrid as hy
from tfp_hybrid import networks
from tfp_hybrid.latents import LatticeMixture
from tfp_hybrid.serialization import deserialize, serialize

tfd = tfp.distributions
RNG = np.random.default_rng(0)


def mixture_of(level_sizes=(3,), levels=16, dtype=tf.float64, scale=0.5, **options):
    keras.utils.set_random_seed(0)
    mixture = LatticeMixture(level_sizes, levels, hidden_units=(8,), dtype=dtype, **options)
    randomize(mixture.trainable_variables, scale=scale)
    return mixture


def stock(mixture, z, level):
    """The mixtures of a level's entries as ones of TFP, of z in steps: it rounds up, so that half a step is missing."""
    logits, means, scales = (part.numpy() for part in mixture.mixtures(tf.constant(z), level))
    logistic = tfd.Logistic(means / mixture.step - 0.5, scales / mixture.step)
    return tfd.MixtureSameFamily(tfd.Categorical(logits), tfd.QuantizedDistribution(logistic))


@pytest.mark.parametrize("levels", [16, 256])
@pytest.mark.parametrize("level_sizes", [(3,), (2, 1), (1, 2, 3)])
def test_log_prob_is_that_of_tfp(level_sizes, levels):
    mixture = mixture_of(level_sizes, levels)
    z = mixture.step * RNG.integers(-5, 40, (50, sum(level_sizes)))
    wanted = sum(
        stock(mixture, z, level).log_prob(z[:, entries] / mixture.step).numpy().sum(-1)
        for level, entries in enumerate(mixture.levels)
    )
    np.testing.assert_allclose(mixture.log_prob(z), wanted, rtol=1e-9)


def test_probabilities_sum_to_one():
    mixture = mixture_of((1, 1), 8)
    z = np.array(list(itertools.product(range(-150, 160), repeat=2)), float)
    np.testing.assert_allclose(np.exp(mixture.log_prob(z)).sum(), 1, atol=1e-9)


def test_a_level_depends_on_deeper_ones_only():
    mixture = mixture_of((2, 3), 16)
    assert mixture.levels == [slice(0, 3), slice(3, 5)]
    z = RNG.integers(0, 16, (1, 5)).astype(float)
    deepest, outer = (mixture.mixtures(tf.constant(z), level) for level in (0, 1))
    z[:, 3:] += 4
    for one, other in zip(outer, mixture.mixtures(tf.constant(z), 1), strict=True):
        np.testing.assert_array_equal(one, other)
    z[:, :3] += 4
    for one, other in zip(deepest, mixture.mixtures(tf.constant(z), 0), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(outer[1] - mixture.mixtures(tf.constant(z), 1)[1]).max() > 0.1


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize("log_scale", [-30.0, 0.0, 3.0])
def test_the_tails_are_finite_and_those_of_an_exponential(dtype, log_scale):
    """Far from the mean, P(z) = exp(-|z - m| / s) 2 sinh(step / 2s), where the difference of the cdfs underflows."""
    mixture = LatticeMixture((1,), 16, components=1, dtype=dtype)
    mixture.base.assign([[0.0, 0.25, log_scale]])  # a mean of 4
    scale = 0.05 + np.exp(log_scale)
    z = tf.constant([[-20_000.0], [-4_000.0], [4_000.0], [20_000.0]], dtype)
    with tf.GradientTape() as tape:
        tape.watch(z)
        log_prob = mixture.log_prob(z)
        total = tf.reduce_sum(log_prob)
    by_z, by_weights = tape.gradient(total, (z, mixture.base.value))
    half = 0.5 / scale
    distance = np.abs(z.numpy()[:, 0].astype(float) - 4)
    wanted = -distance / scale + half + np.log(-np.expm1(-2 * half))
    np.testing.assert_allclose(log_prob, wanted, rtol=1e-5)
    np.testing.assert_allclose(by_z[:, 0], -np.sign(z[:, 0]) / scale, rtol=1e-5)
    assert np.isfinite(by_weights).all()


def test_the_gradient_is_finite_where_all_mass_is_at_one_point():
    mixture = LatticeMixture((1,), 16, components=1)
    mixture.base.assign([[0.0, 0.25, -200.0]])
    with tf.GradientTape() as tape:
        log_prob = mixture.log_prob([[4.0]])
    assert -1e-3 < log_prob[0] <= 0 and np.isfinite(tape.gradient(log_prob, mixture.base.value)).all()


def test_every_weight_gets_a_gradient_under_xla_too():
    mixture, z = mixture_of((2, 1)), tf.constant(RNG.integers(0, 16, (9, 3)), tf.float64)
    weights = mixture.trainable_variables
    assert len(weights) == 5

    def gradients():
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(mixture.log_prob(z))
        return value, tape.gradient(value, weights)

    found = gradients()
    for gradient in found[1]:
        assert np.abs(gradient).max() > 1e-6
    for jit_compile in (False, True):
        compiled = tf.function(gradients, jit_compile=jit_compile, autograph=False)()
        for one, other in zip(tf.nest.flatten(compiled), tf.nest.flatten(found), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("levels", [8, 64])
def test_samples_have_the_probabilities(levels):
    mixture = mixture_of((1, 1), levels, scale=0.3)
    mixture.base.assign_sub([[0.0] * 8 + [2.0] * 4] * 2)  # narrower
    z = mixture.sample(40_000, seed=(0, 1)).numpy() / mixture.step
    np.testing.assert_array_equal(z, np.rint(z))
    values, counts = np.unique(z, axis=0, return_counts=True)
    often = counts > 400
    frequencies = counts[often] / len(z)
    wanted = np.exp(mixture.log_prob(values[often] * mixture.step))
    assert often.sum() > 5
    np.testing.assert_allclose(frequencies, wanted, atol=5 * np.sqrt(frequencies.max() / len(z)))


def test_shapes():
    mixture = mixture_of((2, 1))
    z = mixture.sample((4, 5), seed=(0, 0))
    assert z.shape == (4, 5, 3) and mixture.log_prob(z).shape == (4, 5) and mixture.log_prob(z[0, 0]).shape == ()
    np.testing.assert_allclose(mixture.log_prob(z)[1, 2], mixture.log_prob(z[1, 2]), rtol=1e-10)
    assert mixture.event_shape == (3,) and mixture.batch_shape == ()


def test_other_conditioners_are_used_and_scaled():
    seen = []

    def conditioner(shape, units):
        seen.append((shape, units))
        return networks.MLP(shape, units, (5,))

    mixture = LatticeMixture((4, 2, 1), 16, components=2, conditioner=conditioner)
    assert seen == [((1,), 12), ((3,), 24)]
    assert mixture.conditioners[0].layers[0](tf.ones((1, 1))).numpy() == 1 / 16
    again = LatticeMixture((4, 2, 1), 16, components=2, conditioner=mixture.conditioners)
    assert again.conditioners == mixture.conditioners


def test_other_conditioners_are_saved():
    mixture = LatticeMixture((2, 1), 16, conditioner=lambda shape, units: networks.MLP(shape, units, (5,), "tanh"))
    randomize(mixture.trainable_variables)
    again = deserialize(json.loads(json.dumps(serialize(mixture))))
    for one, other in zip(mixture.keras_weights(), again.keras_weights(), strict=True):
        other.assign(one)
    z = RNG.integers(0, 16, (9, 3)).astype("float32")
    np.testing.assert_array_equal(again.log_prob(z), mixture.log_prob(z))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(level_sizes=()), r"`level_sizes` is \(\); wanted `flow.level_sizes\(\)`"),
        (dict(level_sizes=4), "`level_sizes` is 4; wanted"),
        (dict(level_sizes=(4, 0)), "a size in `level_sizes` is 0; wanted"),
        (dict(quantization_levels=1), "`quantization_levels` is 1; wanted"),
        (dict(components=0), "`components` is 0; wanted"),
        (dict(conditioner=3), "`conditioner` is 3; wanted a function"),
        (dict(conditioner=[]), "wanted a function .*, or a list of 1 built layers"),
        (dict(conditioner=lambda shape, units: networks.MLP(shape, 5)), r"maps \(1, 2\) to \(1, 5\); wanted \(1, 24\)"),
        (dict(dtype="int32"), "`dtype` is 'int32'; wanted a floating-point one"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LatticeMixture(**dict(level_sizes=(2, 2)) | arguments)


def test_it_is_the_default_of_an_integer_flow():
    flow = hy.bijectors.IntegerFlow(4, steps=1, levels=2, quantization_levels=40, hidden_units=4, dtype="float64")
    latent = hy.flow_distribution(flow).distribution
    assert isinstance(latent, LatticeMixture) and latent.step == flow.bijectors[0].step == 0.5
    assert latent.dtype == tf.float64 and latent.levels == [slice(0, 2), slice(2, 4)]
