import keras
import numpy as np
import pytest
from helpers import normal, randomize

from tfp_hybrid.bijectors import InvertibleLinear


def test_starts_as_a_rotation():
    matrix = InvertibleLinear((5,), "float64").matrix().numpy()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(5), atol=1e-6)
    assert np.abs(matrix - np.eye(5)).max() > 0.1
    np.testing.assert_allclose(InvertibleLinear((5,)).inverse_and_log_det(normal(3, 5))[1], np.zeros(3), atol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_is_a_product_with_its_matrix(shape):
    bijector = InvertibleLinear(shape, "float64")
    randomize(bijector.trainable_variables)
    x = normal(6, *shape, dtype="float64")
    matrix = bijector.matrix().numpy()
    np.testing.assert_allclose(bijector.inverse(x), x.numpy() @ matrix, rtol=1e-10)
    np.testing.assert_allclose(bijector.forward(x), x.numpy() @ np.linalg.inv(matrix), rtol=1e-8)
    positions = np.prod(shape[:-1])
    np.testing.assert_allclose(bijector.inverse_and_log_det(x)[1], 6 * [positions * np.linalg.slogdet(matrix)[1]])


def test_follows_the_seed():
    matrices = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        matrices.append(InvertibleLinear((3,)).matrix().numpy())
    np.testing.assert_array_equal(matrices[0], matrices[1])
    assert np.abs(matrices[0] - matrices[2]).max() > 0.01
