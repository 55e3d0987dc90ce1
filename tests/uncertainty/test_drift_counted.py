"""Drift tests of counts, against scipy on the raw numbers."""

import numpy as np
import pytest
import scipy.stats

from tfp_hybrid.uncertainty.drift.counted import ks_test_of_counts, share_test
from tfp_hybrid.uncertainty.drift.score_tests import ks_test
from tfp_hybrid.uncertainty.monitoring.sketch import Sketch
from tfp_hybrid.uncertainty.monitoring.tally import Tally, histograms


def tallies(reference, new):
    """As a monitor makes them: cut at the percentiles of the reference."""
    edges = np.unique(np.quantile(reference, np.arange(1, 100) / 100, method="inverted_cdf"))
    cells = Sketch(edges, 46, 6144), Sketch(edges, 51, 160)
    return [Tally.of(scores, scores > 0, cell) for scores, cell in zip((reference, new), cells, strict=True)]


@pytest.mark.parametrize("rows", [(500, 300), (12_000, 9000)], ids=["exact", "asymptotic"])
@pytest.mark.parametrize("shift", [0.0, 4.0])
def test_ks_is_that_of_the_scores_or_a_little_less(rows, shift):
    rng = np.random.default_rng(0)
    for offset in (-1000.0, 0.0, 1e5):
        reference, new = (offset + rng.gamma(4, 20, n) + s for n, s in zip(rows, (0, shift), strict=True))
        found, expected = ks_test_of_counts(*histograms(*tallies(reference, new))), scipy.stats.ks_2samp(reference, new)
        assert expected.statistic - 0.0101 <= found.statistic <= expected.statistic + 1e-12
        assert expected.pvalue <= found.p_value * (1 + 1e-9)
        at_most = scipy.stats.kstwo.sf(expected.statistic - 0.0101, round(rows[0] * rows[1] / sum(rows)))
        assert found.p_value <= at_most * 1.1
        greater = 2 * scipy.stats.mannwhitneyu(new, reference).statistic / (rows[0] * rows[1]) - 1
        assert found.effect_size == pytest.approx(greater, abs=0.005)


@pytest.mark.parametrize("rows", [(700, 400), (15_000, 11_000)], ids=["exact", "asymptotic"])
def test_ks_of_ties_is_that_of_the_scores(rows):
    """Where each cell is one score, nothing is lost."""
    rng = np.random.default_rng(0)
    reference, new = (rng.poisson(4.0 + shift, n) for n, shift in zip(rows, (0, 0.1), strict=True))
    counts = (np.bincount(scores, minlength=30) for scores in (reference, new))
    found, expected = ks_test_of_counts(*counts), ks_test(reference, new)
    for name in ("statistic", "p_value", "effect_size"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-9)


def test_infinite_scores_count_at_the_ends():
    rng = np.random.default_rng(0)
    reference, new = (
        rng.normal(size=400),
        np.r_[rng.normal(size=200), np.full(60, np.inf), 20 * [-np.inf], 9 * [np.nan]],
    )
    found = ks_test_of_counts(*histograms(*tallies(reference, new)))
    expected = ks_test(reference, np.where(np.isnan(new), np.inf, new))
    assert found.statistic == pytest.approx(expected.statistic, abs=0.0101) and found.drifted(0.001)
    assert found.effect_size == pytest.approx(expected.effect_size, abs=0.005)


@pytest.mark.nightly
def test_false_alarms_are_at_most_as_often_as_stated():
    """1,000 batches of 200 rows against references of 1,000: for 5 % alarms, the standard error is 0.7 %."""
    rng = np.random.default_rng(0)
    alarms = []
    for _ in range(1000):
        reference, new = rng.gamma(4, 20, 1000), rng.gamma(4, 20, 200)
        threshold = np.quantile(reference, 0.95, method="inverted_cdf")
        shares = [(int((scores > threshold).sum()), len(scores)) for scores in (reference, new)]
        found = ks_test_of_counts(*histograms(*tallies(reference, new))), share_test("abstentions", *shares)
        alarms.append([test.drifted(0.05) for test in found])
    assert (np.mean(alarms, axis=0) <= 0.065).all() and (np.mean(alarms, axis=0) >= 0.025).all()


@pytest.mark.parametrize("reference, new", [((50, 5000), (90, 6000)), ((3_000_000, 10**9), (3100, 10**6))])
def test_shares_are_compared_by_chi_square(reference, new):
    """The square of the z-statistic of two proportions with a pooled variance."""
    found = share_test("abstentions", reference, new)
    pooled = (reference[0] + new[0]) / (reference[1] + new[1])
    difference = new[0] / new[1] - reference[0] / reference[1]
    z = difference / np.sqrt(pooled * (1 - pooled) * (1 / reference[1] + 1 / new[1]))
    assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(abs(z)), rel=1e-6)
    assert found.effect_size == pytest.approx(difference) and found.statistic == abs(found.effect_size)
    assert found.name == "abstentions"


def test_few_rows_are_compared_exactly():
    """3 of 4 against 1 of 5, Fisher's test: all tables with the same margins, by their hypergeometric law."""
    law = scipy.stats.hypergeom(9, 4, 4)
    expected = sum(law.pmf(k) for k in range(5) if law.pmf(k) <= law.pmf(3) * (1 + 1e-9))
    assert share_test("abstentions", (3, 4), (1, 5)).p_value == pytest.approx(expected)
    assert share_test("abstentions", (0, 10), (0, 5)).p_value == 1
    assert share_test("abstentions", (2, 10**6), (3, 10**6)).p_value == pytest.approx(1)


def test_empty_samples_are_refused():
    for reference, new, name in (([0, 0], [1, 0], "reference"), ([1, 0], [0, 0], "new")):
        with pytest.raises(ValueError, match=f"{name} is empty"):
            ks_test_of_counts(np.array(reference), np.array(new))
        with pytest.raises(ValueError, match=f"{name} is empty"):
            share_test("share", (0, sum(reference)), (0, sum(new)))
