import numpy as np
import pytest
import tensorflow as tf
from helpers import autodiff_log_det
from scipy import stats

import tfp_hybrid as hy
from tfp_hybrid.bijectors import Background


def test_the_background_becomes_a_truncated_normal():
    noise = np.random.default_rng(0).uniform(size=(20_000, 1))
    z = Background((1,)).inverse(noise)[:, 0]
    assert stats.kstest(z, stats.truncnorm(-2.5, 2.5).cdf).pvalue > 0.01


def test_density_of_the_background_is_that_of_a_uniform():
    noise = np.random.default_rng(0).uniform(size=(100, 3))
    z, log_det = Background((3,)).inverse_and_log_det(noise)
    np.testing.assert_allclose(stats.truncnorm(-2.5, 2.5).logpdf(z).sum(-1) + log_det, 0, atol=1e-12)


def test_saturated_levels_become_another_truncated_normal():
    noise = np.random.default_rng(0).uniform(252, 256, (20_000, 3))
    z, log_det = Background((3,), saturated=252).inverse_and_log_det(noise)
    normal = stats.truncnorm(-2.5, 2.5, loc=2 * 2.5 + 0.04 * 251)
    assert stats.kstest(z[:, 0], normal.cdf).pvalue > 0.01
    np.testing.assert_allclose(normal.logpdf(z).sum(-1) + log_det, -3 * np.log(4), atol=1e-10)


@pytest.mark.parametrize("saturated", [None, 252, 1])
@pytest.mark.parametrize("dtype, atol", [("float32", 2e-5), ("float64", 1e-12)])
def test_it_rises_without_a_break_and_comes_back(dtype, atol, saturated):
    background = Background((1,), saturated=saturated)
    parts = [np.linspace(-3, 3, 60_001), np.linspace(3, 251, 1000), np.linspace(251, 256, 50_001)[1:], [256, 257, 300]]
    x = np.concatenate(parts).astype(dtype)[:, np.newaxis]
    z = background.inverse(x)
    steps = np.diff(z[:, 0])
    assert np.all(steps >= 0) and steps[:60_000].max() < 0.01 and steps[61_001:-3].max() < 0.01
    np.testing.assert_allclose(
        background.forward(tf.identity(z)), x, rtol=1e-5 if dtype == "float32" else 1e-12, atol=atol
    )


@pytest.mark.parametrize("saturated", [None, 252])
def test_log_det_of_every_piece_and_at_their_ends(saturated):
    background = Background((2,), saturated=saturated)
    for v in (-3.0, -1e-9, 0.0, 0.3, 1 - 1e-9, 1.0, 252 - 1e-9, 252.0, 255.5, 256 - 1e-9, 256.0, 300.0):
        x = tf.constant([[v, 0.5]], tf.float64)
        z, log_det = background.inverse_and_log_det(x)
        assert float(log_det[0]) == pytest.approx(autodiff_log_det(background.inverse, x[0]), abs=1e-9)
        assert float(background.forward_and_log_det(tf.identity(z))[1][0]) == pytest.approx(
            -float(log_det[0]), abs=1e-6
        )


@pytest.mark.parametrize("saturated", [0, 256, 2.5, True])
def test_only_a_level_can_be_saturated(saturated):
    with pytest.raises(ValueError, match=f"`saturated` is {saturated}; wanted"):
        Background((4, 4, 1), saturated=saturated)


@pytest.mark.parametrize("saturated", [None, 252])
def test_images_come_back(saturated):
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1)).astype("uint8")
    background = Background((4, 4, 1), saturated=saturated)
    flow = hy.bijectors.FusedChain([hy.bijectors.Dequantize((4, 4, 1), 256), background], (4, 4, 1))
    np.testing.assert_array_equal(flow.forward(tf.identity(flow.inverse(images))), images)
