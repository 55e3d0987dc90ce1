"""What each level of a multi-scale flow adds to log p(x), and the scores of one level."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import randomize, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.bijectors import FactorOut, one_pass

tfd = tfp.distributions
IMAGES = np.random.default_rng(0).integers(0, 4, (12, 8, 8, 1)).astype("uint8")


@pytest.fixture(scope="module")
def model():
    flow = hy.bijectors.Glow((8, 8, 1), levels=3, steps=1, hidden_units=4, quantization_levels=4)
    model = hy.DensityModel(hy.flow_distribution(flow))
    randomize(model.trainable_weights)
    return model


def deeper_levels(flow, x):
    """The flow below the first `FactorOut`, and its input."""
    *first, factor_out = flow.bijectors
    assert isinstance(factor_out, FactorOut)
    for bijector in first:
        x = bijector.inverse(tf.identity(x))
    return factor_out.bijector, x[..., : x.shape[-1] // 2]


def test_levels_below_are_a_flow_of_their_own(model):
    """The levels from the second on have the log p of TFP's distribution of what the first level hands down."""
    levels = model.encode(IMAGES).level_log_probs.numpy()
    flow, x = model.flow, tf.cast(IMAGES, tf.float32)
    for first in (1, 2):
        flow, x = deeper_levels(flow, x)
        below = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(flow.latent_shape)), flow)
        np.testing.assert_allclose(levels[:, first:].sum(1), below.log_prob(x), rtol=1e-4, atol=1e-3)


def test_levels_add_up(model):
    encoding = model.encode(IMAGES)
    expected = model.distribution.log_prob(IMAGES)
    np.testing.assert_allclose(encoding.log_prob, expected, rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(encoding.level_log_probs, -1), expected, rtol=1e-5)
    assert [part.shape[-1] for part in encoding.level_features] == [32, 16, 16]
    np.testing.assert_array_equal(tf.concat(encoding.level_features[::-1], -1), encoding.features)


def test_scores_of_a_level_equal_their_definitions(model):
    encoding = model.encode(IMAGES)
    for level in (0, 2, -1):
        found = uncertainty.LevelLogProb(level).score(model, IMAGES)
        np.testing.assert_allclose(found, -encoding.level_log_probs[:, level], rtol=1e-5)
        norm = np.linalg.norm(encoding.level_features[level], axis=-1)
        np.testing.assert_allclose(uncertainty.LatentNorm(level).score(model, IMAGES), norm, rtol=1e-5)
    norm = np.linalg.norm(encoding.features, axis=-1)
    two_sided = uncertainty.LatentNorm(two_sided=True).fit(model, IMAGES[:6])
    np.testing.assert_allclose(two_sided.score(model, IMAGES), abs(norm - norm[:6].mean()), rtol=1e-4, atol=1e-5)


def test_flows_without_levels_have_one():
    model = tiny_model()
    x = np.float32([[0.3, -0.2], [1.0, 2.0]])
    np.testing.assert_allclose(uncertainty.LevelLogProb(0).score(model, x), -model.log_prob(x), rtol=1e-6)
    stock = tfp.bijectors.Chain([tfp.bijectors.Scale(2.0), tfp.bijectors.Softplus()])
    assert one_pass.level_sizes(stock, tf.TensorShape((2,))) == [2]
    z, log_dets = one_pass.inverse_and_log_dets(stock, tf.constant([[1.0, 2.0]]), 1)
    expected = stock.inverse_log_det_jacobian(tf.constant([[1.0, 2.0]]), 1)
    np.testing.assert_allclose(log_dets, [expected], rtol=1e-6)


@pytest.mark.parametrize("make", [uncertainty.LevelLogProb, uncertainty.LatentNorm])
def test_unknown_levels_are_explained(make, model):
    with pytest.raises(ValueError, match="`level` is 3; wanted one of the flow's 3, counted from 0"):
        make(level=3).score(model, IMAGES)


def test_a_dependent_latent_is_explained(model):
    latent = tfd.MultivariateNormalFullCovariance(tf.zeros(64), 2 * tf.eye(64))
    other = hy.DensityModel(hy.flow_distribution(model.flow, latent))
    with pytest.raises(ValueError, match="wanted `tfd.Independent` of a scalar distribution"):
        uncertainty.LevelLogProb().score(other, IMAGES)
