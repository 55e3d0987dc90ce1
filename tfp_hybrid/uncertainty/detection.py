"""Metrics of out-of-distribution detection, on plain arrays of scores from any model.

Higher scores mean more out-of-distribution, and out-of-distribution is the positive class. Infinite scores are the
highest or lowest ones, and equal scores are ties. NaN is an error.
"""

import numpy as np
import scipy.stats
import sklearn.metrics

from tfp_hybrid.models import checks

__all__ = ["aupr_in", "aupr_out", "auroc", "detection_error", "detection_metrics", "fpr_at_tpr"]


def auroc(inside, outside) -> float:
    """Returns the area under the ROC curve: how often an outside score is above an inside one, with ties as one half.

    Args:
      inside: Scores of in-distribution inputs, `(n,)`.
      outside: Scores of out-of-distribution inputs, `(m,)`.

    Raises:
      ValueError: If an argument is empty, holds NaN, or is not a vector.
    """
    return float(sklearn.metrics.roc_auc_score(*labels_and_ranks(inside, outside)))


def aupr_out(inside, outside) -> float:
    """Returns the average precision of detecting out-of-distribution inputs; arguments as for `auroc`."""
    return float(sklearn.metrics.average_precision_score(*labels_and_ranks(inside, outside)))


def aupr_in(inside, outside) -> float:
    """Returns the average precision of detecting in-distribution inputs by low scores; arguments as for `auroc`."""
    positive, ranks = labels_and_ranks(inside, outside)
    return float(sklearn.metrics.average_precision_score(1 - positive, -ranks))


def fpr_at_tpr(inside, outside, tpr: float = 0.95) -> float:
    """Returns the fraction of in-distribution inputs that are flagged when at least `tpr` of the outside ones are.

    Papers in which in-distribution is the positive class report the reverse: the fraction of outside inputs that pass
    when 95 % of the inside ones do.

    Args:
      inside, outside: Scores, as for `auroc`.
      tpr: The true positive rate, above 0 and at most 1.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr is {tpr}; wanted a rate above 0 and at most 1.")
    false, true, _ = sklearn.metrics.roc_curve(*labels_and_ranks(inside, outside), drop_intermediate=False)
    return float(false[np.argmax(true >= tpr - 1e-12)])


def detection_error(inside, outside) -> float:
    """Returns the lowest mean of false positive and false negative rate over all thresholds.

    See `auroc` for the arguments.

    References:
      Lee, Lee, Lee and Shin 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
      Attacks", section 3, whose detection accuracy is 1 minus this.
    """
    false, true, _ = sklearn.metrics.roc_curve(*labels_and_ranks(inside, outside), drop_intermediate=False)
    return float(np.min(false + 1 - true) / 2)


METRICS = {
    "auroc": auroc,
    "aupr_out": aupr_out,
    "aupr_in": aupr_in,
    "fpr95": fpr_at_tpr,
    "detection_error": detection_error,
}


def detection_metrics(inside, outside) -> dict[str, float]:
    """Returns all of `METRICS`; see `auroc` for the arguments."""
    return {name: metric(inside, outside) for name, metric in METRICS.items()}


def labels_and_ranks(inside, outside) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels, 1 for outside and 0 for inside, and the dense ranks of the scores, which are always finite."""
    inside, outside = check_scores(inside, "inside"), check_scores(outside, "outside")
    ranks = scipy.stats.rankdata(np.r_[inside, outside], method="dense")
    return np.r_[np.zeros(len(inside), int), np.ones(len(outside), int)], ranks


def check_scores(scores, argument: str) -> np.ndarray:
    """Returns a float64 vector; raises ValueError if `scores` is empty, holds NaN, or is not a vector."""
    scores = checks.reals(scores, argument)
    if scores.ndim != 1:
        raise ValueError(f"{argument} has shape {scores.shape}; wanted scores of shape (n,).")
    if not scores.size:
        raise ValueError(f"{argument} is empty; wanted at least one score.")
    if np.isnan(scores).any():
        raise ValueError(f"{argument} holds NaN at index {np.argmax(np.isnan(scores))}; wanted numbers.")
    return scores
