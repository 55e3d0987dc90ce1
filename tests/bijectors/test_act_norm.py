import numpy as np
import pytest
import tensorflow as tf
from helpers import normal

from tfp_hybrid.bijectors import ActNorm


@pytest.mark.parametrize("shape", [(3,), (4, 2, 3)])
def test_adapt_standardizes_each_channel(shape):
    x = normal(50, *shape) * [0.1, 3.0, 20.0] + [5.0, -4.0, 100.0]
    bijector = ActNorm(shape)
    assert not bijector.is_adapted()
    z = bijector.adapt(x).numpy().reshape(-1, 3)
    assert bijector.is_adapted()
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-4)
    np.testing.assert_allclose(bijector.inverse(tf.identity(x)).numpy().reshape(-1, 3), z, atol=1e-6)


def test_constant_feature_keeps_its_scale():
    bijector = ActNorm((2,))
    z = bijector.adapt(tf.stack([normal(20), tf.fill(20, 7.0)], 1)).numpy()
    np.testing.assert_array_equal(z[:, 1], 0)
    assert bijector.log_scale.numpy()[1] == 0


def test_inverse_formula():
    bijector = ActNorm((2,))
    bijector.loc.assign([1.0, 2.0])
    bijector.log_scale.assign(np.log([2.0, 4.0]))
    z, log_det = bijector.inverse_and_log_det([[3.0, 6.0]])
    np.testing.assert_allclose(z, [[1.0, 1.0]])
    np.testing.assert_allclose(log_det, [-np.log(8)], rtol=1e-6)


def test_features_of_a_tiny_scale_are_standardized_too():
    x = 1e-7 * np.random.default_rng(0).normal(size=(500, 2)).astype("float32")
    z = ActNorm((2,)).adapt(x)
    np.testing.assert_allclose(np.std(z, axis=0), 1.0, rtol=1e-3)
