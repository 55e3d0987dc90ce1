"""Has the data changed? Two-sample tests on log p(x), or any score, of new inputs against a reference.

The tests see scores, not inputs. They find changes that move the score's distribution; inputs from another population
whose scores are distributed as the reference's pass, however different they are. "No drift" by -log p(x) means that
the new inputs are as likely as the reference, not that they are alike: a density has the same value on a whole surface
of inputs (a Gaussian, at every rotation about its mean). To find any change, train a classifier to tell the inputs
themselves from the reference: an AUC above one half on rows it has not seen is drift.
"""

import dataclasses

import numpy as np
import scipy.stats

from tfp_hybrid.uncertainty.detection import auroc, check_scores

BLIND_SPOT = (
    "The tests see scores only: inputs of another population whose scores are distributed alike pass. "
    "'no' means as likely as the reference, not the same."
)


@dataclasses.dataclass(frozen=True)
class DriftTest:
    """A two-sample test's answer.

    Attributes:
      name: "KS" or "typicality".
      statistic: its value.
      p_value: how often it is as large when nothing has changed.
      effect_size: how much has changed; 0 is nothing. See the test.
    """

    name: str
    statistic: float
    p_value: float
    effect_size: float

    def drifted(self, significance: float = 0.05) -> bool:
        """Whether the p-value is below `significance`, the false-alarm rate."""
        return self.p_value < significance


def ks_test(reference, new) -> DriftTest:
    """Kolmogorov-Smirnov: the largest distance of the two distribution functions.

    Args:
      reference: scores of in-distribution inputs that training has not seen, `(n,)`.
      new: scores of the inputs in question, `(m,)`.

    Returns:
      A `DriftTest` whose effect size is Cliff's delta, -1 to 1: how much more often a new score is higher than a
      reference score than lower.

    Raises:
      ValueError: if one is empty, holds NaN, or is no vector.
    """
    reference, new = check_scores(reference, "reference"), check_scores(new, "new")
    ranks = scipy.stats.rankdata(np.r_[reference, new], method="dense")  # the same test, infinite scores included
    found = scipy.stats.ks_2samp(ranks[: len(reference)], ranks[len(reference) :])
    return DriftTest("KS", float(found.statistic), float(found.pvalue), 2 * auroc(reference, new) - 1)


def typicality_test(reference, new, resamples: int = 1000, seed: int = 0) -> DriftTest:
    """Is the batch typical? |mean score of the batch - H|, with H the reference's mean, against a bootstrap.

    With scores -log p(x), H estimates the entropy of p(x). The bootstrap draws both samples from the reference, so that
    it allows for H's own error; with fewer than some 50 reference inputs it still raises too many alarms.

    Args:
      reference, new: as of `ks_test`. With an infinite score in the batch the statistic is infinite: that is drift.
      resamples: of the bootstrap.
      seed: of its draws.

    Returns:
      A `DriftTest` whose effect size is the shift of the mean in the reference's standard deviations. A p-value below
      alpha is a statistic above the bootstrap's (1 - alpha) quantile, the paper's threshold.

    Raises:
      ValueError: if one is empty, holds NaN, or is no vector; if the reference holds infinite scores; if
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
    extreme = np.inf if (new == np.inf).any() else new.mean()  # +inf and -inf have no mean
    shift = extreme - reference.mean()
    rng = np.random.default_rng(seed)
    draws = ((rng.choice(reference, len(sample)).mean() for sample in (new, reference)) for _ in range(resamples))
    null = [abs(batch - again) for batch, again in draws]
    p_value = (1 + np.sum(np.asarray(null) >= abs(shift))) / (1 + resamples)
    spread, rounding = reference.std(), 8 * np.finfo(float).eps * abs(reference.mean())
    if spread <= rounding:  # all equal: what is left of the differences is how the means were rounded
        effect = np.sign(shift) * np.inf if abs(shift) > rounding else 0.0
    else:
        effect = shift / spread
    return DriftTest("typicality", float(abs(shift)), float(p_value), float(effect))
