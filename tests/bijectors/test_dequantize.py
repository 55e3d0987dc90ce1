import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import randomize

from tfp_hybrid import flow_distribution
from tfp_hybrid.bijectors import ActNorm, Dequantize, FusedChain, RealNVP, integer_preprocessing

tfd = tfp.distributions


def images(rows=500, levels=256, seed=0):
    return np.random.default_rng(seed).integers(levels, size=(rows, 4, 4, 1)).astype("uint8")


@pytest.mark.parametrize("training", [False, True])
def test_noise_is_uniform_and_the_floor_is_x(training):
    x = images()
    bijector = Dequantize((4, 4, 1))
    z, log_det = bijector.inverse_and_log_det(x, training=training)
    noise = z.numpy() - x
    assert noise.min() >= 0 and noise.max() < 1
    assert scipy.stats.kstest(noise.ravel(), "uniform").pvalue > 1e-3
    for axis in range(16):  # each pixel by itself, over the images
        assert scipy.stats.kstest(noise.reshape(-1, 16)[:, axis], "uniform").pvalue > 1e-4
    correlation = np.corrcoef(noise.reshape(-1, 16).T) - np.eye(16)
    assert np.abs(correlation).max() < 0.2
    np.testing.assert_array_equal(log_det, np.zeros(500))
    np.testing.assert_array_equal(bijector.forward(tf.identity(z)), x)
    assert z.dtype == tf.float32


@pytest.mark.parametrize("training", [False, True])
def test_the_highest_level_is_never_rounded_up(training):
    x = (
        np.full((1000, 2000), 255, "uint8")
        if training
        else np.stack([np.arange(1000) % 256] + 1999 * [[255] * 1000], 1)
    )
    z, _ = Dequantize((2000,)).inverse_and_log_det(x, training=training)
    assert z.numpy().max() < 256


def test_evaluation_noise_repeats_and_does_not_depend_on_the_batch():
    x = images(20)
    bijector = Dequantize((4, 4, 1))
    z = bijector.inverse(x).numpy()
    np.testing.assert_array_equal(bijector.inverse(tf.constant(x, "float32")), z)
    np.testing.assert_array_equal(bijector.inverse(x[7:3:-1]), z[7:3:-1])
    np.testing.assert_array_equal(bijector.inverse(x[7]), z[7])
    np.testing.assert_array_equal(Dequantize((4, 4, 1)).inverse(x), z)
    np.testing.assert_array_equal(bijector.inverse_and_log_det(tf.constant(x))[0], z)
    assert len(np.unique(z - x)) > 300  # images differ in their noise


def test_training_noise_is_fresh_and_follows_the_seed():
    def draws():
        keras.utils.set_random_seed(3)
        bijector = Dequantize((4, 4, 1))
        step = tf.function(lambda x: bijector.inverse_and_log_det(x, training=True)[0])
        return [step(images(4)).numpy() for _ in range(2)]

    first, second = draws()
    assert np.all(first != second)
    np.testing.assert_array_equal(draws(), [first, second])
    keras.utils.set_random_seed(4)
    other = Dequantize((4, 4, 1)).inverse_and_log_det(images(4), training=True)[0]
    assert np.mean(first != other) > 0.99


@pytest.mark.parametrize("scale", [1.5, 0.4])
def test_log_prob_is_a_lower_bound_on_that_of_the_integers(scale):
    """A Gaussian's mass in each unit cube, against the mean over the noise of log p(x + u)."""
    affine = ActNorm((1,))
    affine.loc.assign([2.2])
    affine.log_scale.assign([np.log(scale)])
    p_x = flow_distribution(FusedChain([Dequantize((1,), 6), affine], (1,)))
    offsets = (np.arange(1000) + 0.5) / 1000
    for k in range(6):
        x = tf.fill((20_000, 1), k)
        z, log_det = p_x.bijector.inverse_and_log_det(x, training=True)
        log_prob = (p_x.distribution.log_prob(z) + log_det).numpy()
        log_mass = np.log(np.diff(scipy.stats.norm.cdf([k, k + 1], 2.2, scale))[0])
        bound = scipy.stats.norm.logpdf(k + offsets, 2.2, scale).mean()
        error = 5 * log_prob.std() / np.sqrt(len(log_prob))
        assert abs(log_prob.mean() - bound) < error
        assert log_prob.mean() < log_mass + error


@pytest.mark.parametrize("levels", [256, 8])
def test_bits_per_dim_of_uniform_integers(levels):
    """With z uniform, an integer's probability is 1 / levels on each entry: log2(levels) bits."""
    latent = tfd.Independent(tfd.Uniform(-0.5 * tf.ones((4, 4, 1)), 0.5), 3)
    p_x = flow_distribution(FusedChain(integer_preprocessing((4, 4, 1), levels), (4, 4, 1)), latent)
    bits = -p_x.log_prob(images(20, levels)).numpy() / (16 * np.log(2))
    np.testing.assert_allclose(bits, np.log2(levels), rtol=1e-6)


@pytest.mark.parametrize("logit", [False, True])
def test_preprocessing_formula(logit):
    x = images(30, 32)
    z = FusedChain(integer_preprocessing((4, 4, 1), 32, logit), (4, 4, 1)).inverse(x)
    v = Dequantize((4, 4, 1), 32).inverse(x).numpy() / 32
    p = 0.05 + 0.9 * v
    np.testing.assert_allclose(z, np.log(p / (1 - p)) if logit else v - 0.5, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 4, 1), (3,)])
def test_samples_of_an_integer_flow_are_levels(shape):
    flow = RealNVP(shape, couplings=2, levels=1, hidden_units=8 if len(shape) == 3 else (8,), quantization_levels=5)
    p_x = flow_distribution(flow)
    randomize(p_x.trainable_variables)
    x = p_x.sample(50, seed=1).numpy()
    assert x.shape == (50, *shape) and set(np.unique(x)) <= set(range(5)) and len(np.unique(x)) > 2


def test_too_few_levels():
    with pytest.raises(ValueError, match="`quantization_levels` is 1; wanted a whole number, at least 2"):
        Dequantize((3,), quantization_levels=1)
