"""Two-sample tests on log p(x), or any score, of new inputs against a reference."""

import dataclasses

import numpy as np
import scipy.stats

from tfp_hybrid.uncertainty.detection import auroc, check_scores

__all__ = ["BLIND_SPOT", "DriftTest", "ks_test", "typicality_test"]

BLIND_SPOT = (
    "The tests see scores only: inputs from another population pass if their scores have the same distribution. "
    "'no' means as likely as the reference, not the same."
)


@dataclasses.dataclass(frozen=True)
class DriftTest:
    """The result of a two-sample test.

    Attributes:
      name: "KS" or "typicality".
      statistic: The value of the test statistic.
      p_value: The probability of a statistic at least this large if nothing has changed.
      effect_size: The size of the change, 0 for none; each test defines it.
    """

    name: str
    statistic: float
    p_value: float
    effect_size: float

    def drifted(self, significance: float = 0.05) -> bool:
        """Returns whether the p-value is below `significance`, the false-alarm rate."""
        return self.p_value < significance


def ks_test(reference, new) -> DriftTest:
    """Runs a Kolmogorov-Smirnov test, whose statistic is the largest distance between the distribution functions.

    Args:
      reference: Scores of in-distribution inputs that were not used in training, `(n,)`.
      new: Scores of the inputs to test, `(m,)`.

    Returns:
      A `DriftTest`. Its effect size is Cliff's delta, from -1 to 1: the probability that a new score is above a
      reference score, minus the probability that it is below.

    Raises:
      ValueError: If an argument is empty, holds NaN, or is not a vector.
    """
    reference, new = check_scores(reference, "reference"), check_scores(new, "new")
    # The test depends on the ranks only, and the rank of an infinite score is finite.
    ranks = scipy.stats.rankdata(np.r_[reference, new], method="dense")
    found = scipy.stats.ks_2samp(ranks[: len(reference)], ranks[len(reference) :])
    return DriftTest("KS", float(found.statistic), float(found.pvalue), 2 * auroc(reference, new) - 1)


def typicality_test(reference, new, resamples: int = 1000, seed: int = 0) -> DriftTest:
    """Runs a typicality test, whose statistic is |mean score of the batch - H|, with H the mean of the reference.

    With scores -log p(x), H estimates the entropy of p(x). The p-value comes from a bootstrap that draws both samples
    from the reference, so it accounts for the error of H; with fewer than about 50 reference inputs it still raises too
    many alarms.

    Args:
      reference, new: Scores, as for `ks_test`. An infinite score in the batch makes the statistic infinite, which is
        drift.
      resamples: The number of bootstrap resamples.
      seed: The random seed of the bootstrap.

    Returns:
      A `DriftTest`. Its effect size is the shift of the mean, in standard deviations of the reference. The p-value is
      below alpha if the statistic is above the (1 - alpha) quantile of the bootstrap, the threshold of the paper.

    Raises:
      ValueError: If an argument is empty, holds NaN, or is not a vector, if the reference holds infinite scores, or if
        `resamples` < 1.

    References:
      Nalisnick, Matsukawa, Teh and Lakshminarayanan 2019, "Detecting Out-of-Distribution Inputs to Deep Generative
      Models Using Typicality", algorithm 1.
    """
    reference, new = check_scores(reference, "reference"), check_scores(new, "new")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; wanted at least 1.")
    if not np.isfinite(reference).all():
        raise ValueError(f"reference holds {np.sum(np.isinf(reference))} infinite scores; wanted finite ones.")
    extreme = np.inf if (new == np.inf).any() else new.mean()  # +inf and -inf together have no mean
    shift = extreme - reference.mean()
    rng = np.random.default_rng(seed)
    draws = ((rng.choice(reference, len(sample)).mean() for sample in (new, reference)) for _ in range(resamples))
    null = [abs(batch - again) for batch, again in draws]
    p_value = (1 + np.sum(np.asarray(null) >= abs(shift))) / (1 + resamples)
    spread, rounding = reference.std(), 8 * np.finfo(float).eps * abs(reference.mean())
    if spread <= rounding:  # all are equal, and differences of means are rounding errors
        effect = np.sign(shift) * np.inf if abs(shift) > rounding else 0.0
    else:
        effect = shift / spread
    return DriftTest("typicality", float(abs(shift)), float(p_value), float(effect))
