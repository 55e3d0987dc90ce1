"""Two-sample tests of counts, for samples too large to be kept."""

import numpy as np
import scipy.stats

from tfp_hybrid.uncertainty.drift.score_tests import DriftTest, ks_test

_EXACT = 10_000  # rows, up to which scipy computes the p-value of KS exactly
_LEAST_EXPECTED = 5  # rows of a cell, from which chi-square is a good approximation


def ks_test_of_counts(reference: np.ndarray, new: np.ndarray) -> DriftTest:
    """Runs `ks_test` on the counts of scores in cells, in the order of the scores.

    The distribution functions are compared at the ends of the cells only. So the statistic is at most that of the
    scores, and too small by at most the largest share of a cell in the reference (or in the new scores, if that is
    less); the p-value is at least that of the scores, and the test conservative.

    Args:
      reference: Counts of scores of the reference, `(cells,)`.
      new: Counts of scores of the inputs to test, `(cells,)`.

    Raises:
      ValueError: If all counts of an argument are 0.
    """
    for name, counts in (("reference", reference), ("new", new)):
        if not counts.sum():
            raise ValueError(f"{name} is empty; wanted at least one score.")
    rows, new_rows = int(reference.sum()), int(new.sum())
    if max(rows, new_rows) <= _EXACT:
        return ks_test(*(np.repeat(np.arange(len(counts)), counts) for counts in (reference, new)))
    before, after = np.cumsum(reference) / rows, np.cumsum(new) / new_rows
    statistic = np.abs(after - before).max()
    # As scipy.stats.ks_2samp does for large samples.
    p_value = scipy.stats.kstwo.sf(statistic, round(rows * new_rows / (rows + new_rows)))
    # P(new > reference) - P(new < reference), where a cell that both are in counts for neither.
    effect = (new / new_rows * (2 * before - reference / rows)).sum() - 1
    return DriftTest("KS", float(statistic), float(p_value), float(effect))


def share_test(name: str, reference: tuple[int, int], new: tuple[int, int]) -> DriftTest:
    """Tests whether two shares are equal, by chi-square, or by Fisher's exact test for small counts.

    Args:
      name: The name of the test.
      reference: How many rows of the reference are counted, and how many rows there are.
      new: The same of the inputs to test.

    Returns:
      A `DriftTest`. Its effect size is the share of the new rows less that of the reference, its statistic the size
      of this difference.

    Raises:
      ValueError: If there are no rows.
    """
    for argument, (_, rows) in (("reference", reference), ("new", new)):
        if not rows:
            raise ValueError(f"{argument} is empty; wanted at least one row.")
    table = np.array([[counted, rows - counted] for counted, rows in (reference, new)])
    margins = table.sum(0)
    difference = new[0] / new[1] - reference[0] / reference[1]
    if not margins.all():  # all are counted, or none
        p_value = 1.0
    elif (margins.min() * (table.sum(1).min() / table.sum())) < _LEAST_EXPECTED:
        p_value = scipy.stats.fisher_exact(table).pvalue
    else:
        p_value = scipy.stats.chi2_contingency(table, correction=False).pvalue
    return DriftTest(name, abs(difference), float(p_value), difference)
