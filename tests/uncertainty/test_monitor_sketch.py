"""The sketch of a monitor and its exact sum, against numpy and fractions on the raw numbers."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfp_hybrid.uncertainty.monitoring import exact
from tfp_hybrid.uncertainty.monitoring.exact import exact_sum
from tfp_hybrid.uncertainty.monitoring.sketch import Sketch, cumulative

EDGES = np.array([-2.5, 0.0, 1.0, 1.0078125, 3.3])
Q = np.r_[0, 0.0001, 0.001, np.arange(1, 100) / 100, 0.999, 0.9999, 1]
DRAWN = {
    "Cauchy": lambda rng, n: rng.standard_cauchy(n),
    "log-normal": lambda rng, n: np.exp(3 * rng.normal(size=n)),
    "negative": lambda rng, n: -rng.gamma(4, 100, n),
    "bimodal": lambda rng, n: np.where(rng.random(n) < 0.4, rng.normal(-3, 0.1, n), rng.normal(1e5, 1e3, n)),
    "around zero": lambda rng, n: rng.normal(size=n),
    "tiny": lambda rng, n: 1e-30 * rng.normal(size=n),
    "whole": lambda rng, n: rng.poisson(1.5, n).astype(float),
    "float32": lambda rng, n: rng.normal(2000, 50, n).astype("float32").astype(float),
}


def sketch_of(values, edges=EDGES, shift=46, most=6144):
    return Sketch(edges, shift, most).of(np.asarray(values, float))


@pytest.mark.parametrize("name", DRAWN)
def test_quantiles_are_within_one_per_cent(name):
    values = DRAWN[name](np.random.default_rng(0), 200_000)
    expected = np.quantile(values, Q, method="inverted_cdf")
    np.testing.assert_allclose(sketch_of(values).quantiles(Q), expected, rtol=0.0079, atol=0)


def test_quantiles_near_the_edges_are_within_their_ranks():
    """Scores that are close together in comparison with their size, as -log p(x) of images."""
    rng = np.random.default_rng(0)
    edges = np.unique(np.quantile(rng.normal(2000, 5, 5000), np.arange(1, 100) / 100))
    values = rng.normal(2000, 5, 100_000)
    found = sketch_of(values, edges).quantiles(Q)
    np.testing.assert_allclose(np.searchsorted(np.sort(values), found) / len(values), Q, atol=0.015)


@pytest.mark.parametrize("name", DRAWN)
def test_counts_up_to_an_edge_are_exact(name):
    values = np.r_[DRAWN[name](np.random.default_rng(1), 5000), EDGES, np.nextafter(EDGES, 9), -0.0]
    expected = [(values <= edge).sum() for edge in EDGES]
    for shift in (46, 51, 60):
        np.testing.assert_array_equal(sketch_of(values, shift=shift).at_most(EDGES), expected)


def test_quantiles_of_few_numbers():
    np.testing.assert_array_equal(sketch_of([0.0, -0.0]).quantiles([0, 1]), [0, 0])
    assert np.isnan(sketch_of([]).quantiles(np.array([0.5]))).all()
    ends = np.array([-1, 1]) * np.finfo(float).max
    np.testing.assert_allclose(sketch_of(ends).quantiles(np.array([0, 1])), ends, rtol=0.0079)
    values = np.array([-3.0, -1.0, 4.0])
    np.testing.assert_allclose(sketch_of(values).quantiles([0.33, 0.34, 0.67]), values, rtol=0.0079)


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(FINITE, max_size=12), min_size=2, max_size=6), st.randoms())
def test_any_order_of_merging_gives_the_same_state(parts, random):
    """With room for few cells, so that they are coarsened at different times; from single numbers to all at once."""
    together = sketch_of(list(itertools.chain(*parts)), most=14)
    sketches = [sketch_of(part, most=14) for part in parts]
    while len(sketches) > 1:
        random.shuffle(sketches)
        sketches.append(sketches.pop() + sketches.pop())
    assert len(together.counts) <= 14
    assert sketches[0] == together and sketches[0].runs() == together.runs()
    assert Sketch(EDGES, 46, 14).from_runs(together.runs(), together.shift) == together


def test_coarse_cells_hold_the_error_they_state():
    values = np.exp(np.random.default_rng(0).uniform(-600, 600, 5000))
    sketch = sketch_of(values, most=1000)
    assert sketch.shift > 46 and len(sketch.counts) <= 1000
    expected = np.quantile(values, Q, method="inverted_cdf")
    np.testing.assert_allclose(sketch.quantiles(Q), expected, rtol=2.0 ** (sketch.shift - 53))


def test_cumulative_counts_are_those_of_the_numbers():
    rng = np.random.default_rng(0)
    values, others = rng.normal(size=500), rng.normal(1, 2, 300)
    fine, coarse = sketch_of(values), sketch_of(others, shift=51)
    for counts, numbers in zip(cumulative(fine, coarse), (values, others), strict=True):
        assert counts[-1] == len(numbers) and (np.diff(counts) >= 0).all()
        assert {(numbers <= edge).sum() for edge in EDGES} <= {0, *counts.tolist()}


@pytest.mark.parametrize("runs", [[[0]], [[5, 1], [5, 1]], [[0, -1]], [[10**9, 1]], [[0, 2**62]], [[0] + 20 * [1]]])
def test_states_that_no_numbers_have_are_refused(runs):
    with pytest.raises(ValueError, match="cells has"):
        Sketch(EDGES, 46, 14).from_runs(runs, 46)
    with pytest.raises(ValueError, match="shift is 45"):
        Sketch(EDGES, 46, 14).from_runs([[0, 1]], 45)


@settings(max_examples=100, deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=40))
def test_sums_are_exact(values):
    assert exact_sum(np.array(values)) == sum(map(Fraction, values))


def test_sums_of_many_are_exact(monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.standard_cauchy(20_000) * 10.0 ** rng.integers(-30, 30, 20_000)
    expected = sum(map(Fraction, values.tolist()))
    assert expected != Fraction(float(values.sum())), "rounding would not be noticed"
    assert exact_sum(values) == expected
    monkeypatch.setattr(exact, "_CHUNK", 999)
    assert exact_sum(values) == expected
