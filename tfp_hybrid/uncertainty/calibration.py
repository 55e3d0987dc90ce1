"""Predictions that are as sure as they should be: one number, fitted on held-out rows."""

import math

import numpy as np
import scipy.optimize
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import heads
from tfp_hybrid.models import checks, feeding
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores import check_head

tfd = tfp.distributions

_FACTORS = 1e3  # a factor that is searched for lies between this and its reciprocal


def calibrate(model, x, y, batch_size: int = 256) -> float:
    """Makes p(y|x) of a model as sure as held-out rows justify; the predicted class, or mean, stays as it is.

    A classifier's logits are divided by a temperature T, a regressor's standard deviations multiplied by a factor s:
    whichever has the least NLL on these rows. (A mixture is stretched about its mean, by a factor between 1/1000 and
    1000.) The head's own weights take it up, so that everything the model answers from now on, and the file that it is
    saved to, is calibrated. p(x) does not change.

    Args:
      model: a `HybridModel` whose head can be widened (`Head.can_widen`).
      x: `(n, *event_shape)`, an array: rows that training has not seen.
      y: their labels.
      batch_size: rows at a time.

    Returns:
      T, or s: above 1 if the model was too sure.

    Raises:
      ValueError: for another head, labels that it cannot take, or rows without a best T or s (all predicted right).

    References:
      Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 4.2; Levi, Gispan,
      Giladi and Fetaya 2022, "Evaluating and Calibrating Uncertainty Prediction in Regression Tasks", section 4.
    """
    check_head(model)
    if not model.head.can_widen:
        widened = [name for name in heads.__all__ if getattr(heads, name).can_widen]
        raise ValueError(f"calibrate: the head is {type(model.head).__name__}; wanted one of {', '.join(widened)}.")
    if not feeding.is_array(x):
        raise ValueError(f"x is a {type(x).__name__}; wanted an array.")
    checks.check_labels(y, model.head, len(x))
    z = tf.concat([batch.features for batch in encode_batches(model, x, batch_size)], 0)
    p_y, y = model.head(z), np.asarray(model.head.prepare_labels(y))
    while isinstance(p_y, tfd.Independent):
        p_y = p_y.distribution
    if isinstance(p_y, tfd.Categorical):
        factor = temperature(p_y.logits_parameter(), y)
    elif isinstance(p_y, tfd.Bernoulli):
        logits = np.ravel(p_y.logits_parameter())
        factor = temperature(np.stack([np.zeros_like(logits), logits], -1), y.ravel().astype(int))
    elif isinstance(p_y, tfd.Normal):
        factor = stddev_factor(p_y.mean(), np.broadcast_to(p_y.stddev(), y.shape), y)
    else:
        factor = _searched_factor(model.head, z, y)
    model.head.widen(factor)
    return factor


def _searched_factor(head, z, y) -> float:
    """The factor of least NLL for `head.widen`, to about 1e-4 relative; the head stays as it is."""
    before = [weight.numpy() for weight in head.weights]

    def nll(log_factor):
        try:
            head.widen(math.exp(log_factor))
            return -np.mean(head(z).log_prob(y), dtype=float)
        finally:
            for weight, value in zip(head.weights, before, strict=True):
                weight.assign(value)

    # A mixture's NLL may have several minima: a grid finds the lowest one's neighbourhood.
    grid = np.linspace(-math.log(_FACTORS), math.log(_FACTORS), 41)
    values = np.nan_to_num([nll(point) for point in grid], nan=np.inf)
    best = int(np.argmin(values))
    if best in (0, len(grid) - 1):
        raise ValueError(
            f"The best factor is not between {1 / _FACTORS} and {_FACTORS:.0f}; wanted predictions that are neither "
            "all exact nor that far off."
        )
    bounds = grid[best - 1], grid[best + 1]
    return float(np.exp(scipy.optimize.minimize_scalar(nll, bounds=bounds, method="bounded").x))


def temperature(logits, y) -> float:
    """The temperature T > 0 of least NLL for softmax(logits / T), to 1e-6 relative.

    Args:
      logits: `(n, K)`, from any model; log probabilities will do.
      y: integer labels, `(n,)`.

    Raises:
      ValueError: if shapes or labels do not fit, if a logit is not finite, or if no finite T is best: where every
        label has the highest logit (T = 0), or where the logits tell nothing of the labels (T = inf).
    """
    logits, y = checks.reals(logits, "logits"), checks.unmasked(y, "y")
    if logits.ndim != 2 or y.shape != logits.shape[:1] or not y.size:
        raise ValueError(f"logits has shape {logits.shape} and y {y.shape}; wanted (n, K) and (n,), n >= 1.")
    if not np.isfinite(logits).all():
        raise ValueError("logits holds numbers that are not finite; wanted finite ones.")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= logits.shape[1]:
        raise ValueError(
            f"y has {y.dtype} labels from {y.min()} to {y.max()}; wanted integers 0 .. {logits.shape[1] - 1}."
        )
    rows = np.arange(len(y))
    label, mean, highest = logits[rows, y].mean(), logits.mean(), logits.max(-1).mean()
    if label == highest:
        raise ValueError(f"The highest logit is right in all {len(y)} rows; wanted more rows, with some errors.")
    if label <= mean:  # the slope of the NLL in 1/T, at 1/T = 0
        raise ValueError(f"The labels' logits are no higher than others, {label:.4g} to {mean:.4g}; no T helps.")

    def nll(log_t):
        scaled = logits / np.exp(log_t)
        return np.mean(scipy.special.logsumexp(scaled, axis=-1) - scaled[rows, y])

    # Convex in 1/T, so it has one minimum in log T, too.
    scale = np.log(np.std(logits))
    found = scipy.optimize.minimize_scalar(nll, bracket=(scale - 1, scale + 1), method="brent", tol=1e-9)
    return float(np.exp(found.x))


def stddev_factor(mean, stddev, y) -> float:
    """The factor s of least NLL for Normal(mean, s stddev): the root mean square of (y - mean) / stddev.

    Args:
      mean, stddev: predictions, `(n, ...)`, from any model.
      y: responses, of the same shape.

    Raises:
      ValueError: if shapes differ, if a stddev is not above 0, or if every prediction is exact.
    """
    mean, stddev, y = checks.reals(mean, "mean"), checks.reals(stddev, "stddev"), checks.reals(y, "y")
    if not mean.shape == stddev.shape == y.shape or not y.size:
        shapes = f"mean has shape {mean.shape}, stddev {stddev.shape} and y {y.shape}"
        raise ValueError(f"{shapes}; wanted the same, with at least one row.")
    if not (stddev > 0).all():
        raise ValueError(f"stddev has values down to {np.min(stddev)}; wanted above 0.")
    factor = float(np.sqrt(np.mean(((y - mean) / stddev) ** 2)))
    if not 0 < factor < np.inf:
        raise ValueError(f"The best factor is {factor}; wanted finite predictions that are not all exact.")
    return factor
