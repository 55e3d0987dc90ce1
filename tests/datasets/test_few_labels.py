import numpy as np
import pytest

from tfp_hybrid import datasets


@pytest.mark.parametrize("count", [10, 57])
def test_classes_keep_as_many_labels_as_any_other(count):
    digits = datasets.load("digits")
    few = datasets.hide_labels(digits, count, seed=3)
    (x, y), hidden = digits.train, few.train[1]
    known = hidden >= 0
    assert known.sum() == count and few.missing_label == -1 and (hidden[~known] == -1).all()
    np.testing.assert_array_equal(hidden[known], y[known])
    found = np.bincount(hidden[known], minlength=10)
    assert found.max() - found.min() <= 1 and found.sum() == count
    assert few.train[0] is x and few.test is digits.test and f"{count} of 1000 training rows" in few.description
    np.testing.assert_array_equal(datasets.hide_labels(digits, count, seed=3).train[1], hidden)
    assert (datasets.hide_labels(digits, count, seed=4).train[1] != hidden).any()


def test_hidden_numbers_are_nan():
    simulation = datasets.load("simulation")
    few = datasets.hide_labels(simulation, 7)
    known = ~np.isnan(few.train[1])
    assert known.sum() == 7 and np.isnan(few.missing_label)
    np.testing.assert_array_equal(few.train[1][known], simulation.train[1][known])


@pytest.mark.parametrize(
    "count, message",
    [
        (9, "count is 9; wanted a whole number, at least 10"),
        (1000, "count is 1000; wanted fewer labels than the 1000 training rows"),
        (999, "count is 999, [0-9]+ a class, but the class . has [0-9]+ rows"),
    ],
)
def test_counts_that_cannot_be(count, message):
    with pytest.raises(ValueError, match=message):
        datasets.hide_labels(datasets.load("digits"), count)
