"""Metrics of class probabilities, on plain arrays from any model.

In all functions, `probabilities` is `(n, K)` with rows that sum to 1, and `y` holds integer labels 0 .. K-1, `(n,)`.
"""

import dataclasses

import numpy as np
import sklearn.metrics

from tfp_hybrid.models import checks

__all__ = [
    "Reliability",
    "accuracy",
    "brier",
    "classification_metrics",
    "expected_calibration_error",
    "maximum_calibration_error",
    "nll",
    "reliability",
]

STRATEGIES = ("width", "mass")


def accuracy(probabilities, y) -> float:
    """Returns the fraction of rows whose most probable class is the label."""
    probabilities, y = _checked(probabilities, y)
    return float(sklearn.metrics.accuracy_score(y, probabilities.argmax(-1)))


def nll(probabilities, y) -> float:
    """Returns the mean of -log p(y|x) in nats; inf if a label has probability 0."""
    probabilities, y = _checked(probabilities, y)
    with np.errstate(divide="ignore"):
        return float(-np.log(probabilities[np.arange(len(y)), y], dtype=float).mean())


def brier(probabilities, y) -> float:
    """Returns the mean squared distance between the probabilities and the one-hot label, from 0 to 2.

    References:
      Brier 1950, "Verification of forecasts expressed in terms of probability", eq. 2.
    """
    probabilities, y = _checked(probabilities, y)
    return float(np.mean(np.sum((probabilities.astype(float) - np.eye(probabilities.shape[1])[y]) ** 2, -1)))


@dataclasses.dataclass(frozen=True)
class Reliability:
    """The confidence (the highest probability) and the accuracy in each bin; empty bins are left out.

    Attributes:
      confidence: The mean confidence in each bin.
      accuracy: The accuracy in each bin.
      count: The number of rows in each bin.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray

    @property
    def gap(self) -> np.ndarray:
        """|accuracy - confidence| in each bin."""
        return np.abs(self.accuracy - self.confidence)


def reliability(probabilities, y, bins: int = 15, strategy: str = "width") -> Reliability:
    """Computes the numbers of a reliability diagram.

    Args:
      probabilities: Class probabilities, `(n, K)`.
      y: Integer labels, `(n,)`.
      bins: The number of bins.
      strategy: "width" for bins of equal width in (0, 1], or "mass" for bins between quantiles of the confidences
        (equal confidences stay together).

    Raises:
      ValueError: If `strategy` is unknown or `bins` < 1.

    References:
      Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 2.
    """
    probabilities, y = _checked(probabilities, y)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; wanted one of {STRATEGIES}.")
    if bins < 1:
        raise ValueError(f"bins is {bins}; wanted at least 1.")
    confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == y
    parts = np.linspace(0, 1, bins + 1)
    edges = parts if strategy == "width" else np.quantile(confidence, parts)
    # The edges have the dtype of the confidences, so that 0.6 is on its edge.
    number = np.searchsorted(edges[1:-1].astype(confidence.dtype), confidence)
    count = np.bincount(number, minlength=bins)
    sums = [np.bincount(number, values, minlength=bins)[count > 0] for values in (confidence, correct)]
    count = count[count > 0]
    return Reliability(sums[0] / count, sums[1] / count, count)


def expected_calibration_error(probabilities, y, bins: int = 15, strategy: str = "width") -> float:
    """Returns the mean over the rows of |accuracy - confidence| of their bin; see `reliability` for the arguments."""
    curve = reliability(probabilities, y, bins, strategy)
    return float(np.average(curve.gap, weights=curve.count))


def maximum_calibration_error(probabilities, y, bins: int = 15, strategy: str = "width") -> float:
    """Returns the largest |accuracy - confidence| of any bin; see `reliability` for the arguments."""
    return float(reliability(probabilities, y, bins, strategy).gap.max())


def classification_metrics(probabilities, y) -> dict[str, float]:
    """Returns the accuracy, NLL, Brier score, ECE (with bins of equal width and of equal mass) and MCE."""
    return {
        "accuracy": accuracy(probabilities, y),
        "nll": nll(probabilities, y),
        "brier": brier(probabilities, y),
        "ece": expected_calibration_error(probabilities, y),
        "ece_mass": expected_calibration_error(probabilities, y, strategy="mass"),
        "mce": maximum_calibration_error(probabilities, y),
    }


def _checked(probabilities, y):
    probabilities, y = checks.unmasked(probabilities, "probabilities"), checks.unmasked(y, "y")
    if not np.issubdtype(probabilities.dtype, np.floating):
        probabilities = checks.reals(probabilities, "probabilities")
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise ValueError(f"probabilities has shape {probabilities.shape}; wanted (n, K) with K >= 2.")
    if y.shape != probabilities.shape[:1] or not y.size:
        raise ValueError(f"y has shape {y.shape}; wanted {probabilities.shape[:1]}, with at least one row.")
    last = probabilities.shape[1] - 1
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() > last:
        raise ValueError(f"y has {y.dtype} values from {y.min()} to {y.max()}; wanted integers 0 .. {last}.")
    tolerance = max(1e-3, 4 * np.finfo(probabilities.dtype).eps)
    total = probabilities.sum(-1, dtype=float)
    wrong = ~((probabilities >= 0).all(-1) & (np.abs(total - 1) < tolerance))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"probabilities[{row}] is {probabilities[row]}; wanted probabilities that sum to 1.")
    return probabilities, y
