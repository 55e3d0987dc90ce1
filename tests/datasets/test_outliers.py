import numpy as np
import pytest

from tfp_hybrid import datasets
from tfp_hybrid.datasets.outliers import load_outliers

DIGITS = datasets.load("digits")
SIMULATION = datasets.load("simulation")


def test_noise_covers_the_range_and_keeps_the_type():
    x, y = load_outliers("noise", DIGITS)
    assert x.shape == DIGITS.test[0].shape and x.dtype == DIGITS.test[0].dtype and y is None
    np.testing.assert_allclose(np.bincount(x.ravel(), minlength=17) / x.size, 1 / 17, atol=0.01)


def test_noise_of_real_columns_lies_between_their_extremes():
    x, _ = load_outliers("noise", SIMULATION)
    train = SIMULATION.train[0]
    assert train.min() <= x.min() and x.max() <= train.max() and x.dtype == train.dtype


def test_inverted_swaps_dark_and_light():
    x, _ = load_outliers("inverted", DIGITS)
    np.testing.assert_array_equal(x.astype(int) + DIGITS.test[0], 16)


def test_rotated_turns_by_a_quarter():
    x, _ = load_outliers("rotated", DIGITS)
    np.testing.assert_array_equal(x[0, :, :, 0], DIGITS.test[0][0, :, :, 0].T[::-1])


def test_shuffled_keeps_each_column_and_breaks_rows():
    x, _ = load_outliers("shuffled", DIGITS)
    np.testing.assert_array_equal(np.sort(x, axis=0), np.sort(DIGITS.test[0], axis=0))
    assert (x != DIGITS.test[0]).any()


@pytest.mark.parametrize(
    "name, dataset, message",
    [("nothing", DIGITS, "'nothing' is unknown"), ("simulation", DIGITS, r"shape \(1,\) .* wanted \(8, 8, 1\)"),
     ("inverted", SIMULATION, "'inverted' needs images.* Use 'noise'"),
     ("rotated", SIMULATION, "'rotated' needs square images.* Use 'noise'")],
)  # fmt: skip
def test_what_cannot_be_used_is_named(name, dataset, message):
    with pytest.raises(ValueError, match=message):
        load_outliers(name, dataset)
