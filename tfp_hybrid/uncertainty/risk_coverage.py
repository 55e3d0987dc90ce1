"""Selective prediction on plain arrays: the risk of what is kept, against how much is kept."""

import dataclasses

import numpy as np

from tfp_hybrid.uncertainty.detection import check_scores


@dataclasses.dataclass(frozen=True)
class RiskCoverage:
    """The risk when the k inputs of lowest score are kept, for k = 1 .. n.

    Attributes:
      coverage: k / n.
      risk: mean loss of the kept ones; of equal scores, its expectation over their order.
      score: the highest score that is kept.
    """

    coverage: np.ndarray
    risk: np.ndarray
    score: np.ndarray

    @property
    def aurc(self) -> float:
        """Area under the curve: mean risk over the coverages."""
        return float(self.risk.mean())


def risk_coverage_curve(scores, losses) -> RiskCoverage:
    """The risk-coverage curve.

    Args:
      scores: `(n,)`; higher means less to be trusted. Infinite ones are rejected first.
      losses: `(n,)`, >= 0: 0 and 1 for right and wrong classes, squared errors, ...

    Raises:
      ValueError: for NaN, for different lengths, for none at all.

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
    """A float64 vector; ValueError unless there is a finite loss >= 0 for each score."""
    losses = check_scores(losses, "losses")
    if len(scores) != len(losses):
        raise ValueError(f"losses has {len(losses)} rows and scores has {len(scores)}; wanted as many.")
    if not np.isfinite(losses).all() or losses.min() < 0:
        raise ValueError(f"losses has values from {losses.min()} to {losses.max()}; wanted finite numbers >= 0.")
    return losses


def aurc(scores, losses) -> float:
    """Area under the risk-coverage curve; lower is better. Arguments as of `risk_coverage_curve`."""
    return risk_coverage_curve(scores, losses).aurc


def e_aurc(scores, losses) -> float:
    """AURC above that of the best possible score, the loss itself. Arguments as of `risk_coverage_curve`.

    The best possible AURC is that of these very rows; the reference approximates it, by r + (1 - r) log(1 - r).

    References:
      Geifman, Uziel and El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", section 3.
    """
    return aurc(scores, losses) - aurc(losses, losses)
