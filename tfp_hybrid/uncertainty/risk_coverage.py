"""Selective prediction on plain arrays: the risk of the kept inputs against the fraction that is kept."""

import dataclasses

import numpy as np

from tfp_hybrid.uncertainty.detection import check_scores


@dataclasses.dataclass(frozen=True)
class RiskCoverage:
    """The risk when the k inputs with the lowest scores are kept, for k = 1 .. n.

    Attributes:
      coverage: The fraction of kept inputs, k / n.
      risk: The mean loss of the kept inputs; for equal scores, its expectation over their order.
      score: The highest score that is kept.
    """

    coverage: np.ndarray
    risk: np.ndarray
    score: np.ndarray

    @property
    def aurc(self) -> float:
        """The area under the curve: the mean risk over the coverages."""
        return float(self.risk.mean())


def risk_coverage_curve(scores, losses) -> RiskCoverage:
    """Computes the risk-coverage curve.

    Args:
      scores: `(n,)`; inputs with higher scores are rejected first.
      losses: `(n,)`, finite and >= 0, such as 0 and 1 for right and wrong classes, or squared errors.

    Returns:
      A `RiskCoverage`.

    Raises:
      ValueError: If an argument is empty or holds NaN, if the lengths differ, or if a loss is negative or infinite.

    References:
      Geifman and El-Yaniv 2017, "Selective Classification for Deep Neural Networks".
    """
    scores = check_scores(scores, "scores")
    losses = check_losses(scores, losses)
    order = np.argsort(scores, kind="stable")
    scores = scores[order]
    _, group, count = np.unique(scores, return_inverse=True, return_counts=True)
    expected = (np.bincount(group, losses[order]) / count)[group]
    kept = np.arange(1, len(scores) + 1)
    return RiskCoverage(kept / len(scores), np.cumsum(expected) / kept, scores)


def check_losses(scores, losses) -> np.ndarray:
    """Returns losses as a float64 vector; raises ValueError unless there is a finite loss >= 0 for each score."""
    losses = check_scores(losses, "losses")
    if len(scores) != len(losses):
        raise ValueError(f"losses has {len(losses)} rows but scores has {len(scores)}; they must match.")
    if not np.isfinite(losses).all() or losses.min() < 0:
        raise ValueError(f"losses has values from {losses.min()} to {losses.max()}; wanted finite numbers >= 0.")
    return losses


def aurc(scores, losses) -> float:
    """Returns the area under the risk-coverage curve; lower is better. Arguments as for `risk_coverage_curve`."""
    return risk_coverage_curve(scores, losses).aurc


def e_aurc(scores, losses) -> float:
    """Returns the excess of the AURC over that of the best score, the loss itself; arguments as for `aurc`.

    The AURC of the best score is computed exactly on these rows; the reference approximates it by
    r + (1 - r) log(1 - r).

    References:
      Geifman, Uziel and El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", section 3.
    """
    return aurc(scores, losses) - aurc(losses, losses)
