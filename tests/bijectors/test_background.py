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


@pytest.mark.parametrize("dtype, atol", [("float32", 2e-5), ("float64", 1e-12)])
def test_it_rises_without_a_break_and_comes_back(dtype, atol):
    x = np.concatenate([np.linspace(-3, 3, 60_001), np.linspace(3, 300, 1000)]).astype(dtype)[:, np.newaxis]
    z = Background((1,)).inverse(x)
    steps = np.diff(z[:, 0])
    assert np.all(steps >= 0) and steps[:60_000].max() < 0.01
    np.testing.assert_allclose(
        Background((1,)).forward(tf.identity(z)), x, rtol=1e-5 if dtype == "float32" else 1e-12, atol=atol
    )


def test_log_det_of_every_piece_and_at_their_ends():
    background = Background((2,))
    for v in (-3.0, -1e-9, 0.0, 0.3, 1 - 1e-9, 1.0, 255.5):
        x = tf.constant([[v, 0.5]], tf.float64)
        z, log_det = background.inverse_and_log_det(x)
        assert float(log_det[0]) == pytest.approx(autodiff_log_det(background.inverse, x[0]), abs=1e-9)
        assert float(background.forward_and_log_det(tf.identity(z))[1][0]) == pytest.approx(
            -float(log_det[0]), abs=1e-6
        )


def test_images_come_back():
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1)).astype("uint8")
    flow = hy.bijectors.FusedChain([hy.bijectors.Dequantize((4, 4, 1), 256), Background((4, 4, 1))], (4, 4, 1))
    np.testing.assert_array_equal(flow.forward(tf.identity(flow.inverse(images))), images)
