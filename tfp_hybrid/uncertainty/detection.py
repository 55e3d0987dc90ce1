"""How well a score tells out-of-distribution inputs from others: on plain arrays of scores, from any model.

Everywhere: higher scores mean more out-of-distribution, and out-of-distribution is the positive class. Infinite scores
count as the highest or lowest; of equal scores none is higher. NaN is an error.
"""

import numpy as np
import scipy.stats
import sklearn.metrics

from tfp_hybrid.models import checks


def auroc(inside, outside) -> float:
    """Area under the ROC curve: how often an outside score is higher than an inside one; ties count half.

    Args:
      inside: scores of in-distribution inputs, `(n,)`.
      outside: scores of out-of-distribution inputs, `(m,)`.

    Raises:
      ValueError: if one is empty, holds NaN, or is no vector.
    """
    return float(sklearn.metrics.roc_auc_score(*labels_and_ranks(inside, outside)))


def aupr_out(inside, outside) -> float:
    """Average precision of finding the out-of-distribution inputs. Arguments as of `auroc`."""
    return float(sklearn.metrics.average_precision_score(*labels_and_ranks(inside, outside)))


def aupr_in(inside, outside) -> float:
    """Average precision of finding the in-distribution inputs, by low scores. Arguments as of `auroc`."""
    positive, ranks = labels_and_ranks(inside, outside)
    return float(sklearn.metrics.average_precision_score(1 - positive, -ranks))


def fpr_at_tpr(inside, outside, tpr: float = 0.95) -> float:
    """Part of the in-distribution inputs that are flagged when at least `tpr` of the outside ones are.

    Papers that take in-distribution for the positive class count the reverse: outside inputs that pass when 95 % of the
    inside ones do.

    Args:
      inside, outside: as of `auroc`.
      tpr: true positive rate, above 0 and at most 1.
    """
    if not 0 < tpr <= 1:
        raise ValueError(f"tpr is {tpr}; wanted above 0 and at most 1.")
    false, true, _ = sklearn.metrics.roc_curve(*labels_and_ranks(inside, outside), drop_intermediate=False)
    return float(false[np.argmax(true >= tpr - 1e-12)])


def detection_error(inside, outside) -> float:
    """Least mean of the false positive and false negative rate over all thresholds. Arguments as of `auroc`.

    References:
      Lee, Lee, Lee and Shin 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
      Attacks", section 3, where 1 - this is the detection accuracy.
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
    """All of `METRICS`. Arguments as of `auroc`."""
    return {name: metric(inside, outside) for name, metric in METRICS.items()}


def labels_and_ranks(inside, outside) -> tuple[np.ndarray, np.ndarray]:
    """1 for outside and 0 for inside, and scores in the same order as the given ones, but finite: their dense ranks."""
    inside, outside = check_scores(inside, "inside"), check_scores(outside, "outside")
    ranks = scipy.stats.rankdata(np.r_[inside, outside], method="dense")
    return np.r_[np.zeros(len(inside), int), np.ones(len(outside), int)], ranks


def check_scores(scores, argument: str) -> np.ndarray:
    """A float64 vector; ValueError if it is empty, holds NaN, or is no vector."""
    scores = checks.reals(scores, argument)
    if scores.ndim != 1:
        raise ValueError(f"{argument} has shape {scores.shape}; wanted scores of shape (n,).")
    if not scores.size:
        raise ValueError(f"{argument} is empty; wanted at least one score.")
    if np.isnan(scores).any():
        raise ValueError(f"{argument} holds NaN at index {np.argmax(np.isnan(scores))}; wanted numbers.")
    return scores
