"""Post-hoc calibration by one scale factor, fitted on held-out rows."""

import math

import numpy as np
import scipy.optimize
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import heads
from tfp_hybrid.heads.quantiles import of_entries
from tfp_hybrid.models import HybridModel, checks, data_sets, labels, side_inputs
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import check_head

tfd = tfp.distributions

_LARGEST_FACTOR = 1e3  # the search for a factor is between this and its reciprocal


def calibrate(model: HybridModel, x, y, batch_size: int = 256) -> float:
    """Calibrates p(y|x) of a model on held-out rows; the predicted class or mean does not change.

    The logits of a classifier are divided by a temperature T; the standard deviation of a regressor is multiplied by a
    factor s. T or s is the value with the lowest NLL on these rows. (A mixture is stretched about its mean, by a factor
    between 1/1000 and 1000.) With `heads.MixedEffects`, effects on logits are divided, too. The factor is folded into
    the head's weights, so all later predictions are calibrated, and so is the saved model. p(x) does not change.

    Args:
      model: A `HybridModel` whose head can be widened (`Head.can_widen`).
      x: Rows that were not used in training, `(n, *event_shape)`; a dict for a model with side inputs.
      y: The labels of x; rows without one are left out.
      batch_size: The number of rows in a batch.

    Returns:
      T or s; above 1 if the model was overconfident.

    Raises:
      ValueError: If the head cannot be widened or cannot take y, or if there is no best T or s, as when all predictions
        are right.

    References:
      Guo, Pleiss, Sun and Weinberger 2017, "On Calibration of Modern Neural Networks", section 4.2; Levi, Gispan,
      Giladi and Fetaya 2022, "Evaluating and Calibrating Uncertainty Prediction in Regression Tasks", section 4.
    """
    check_head(model)
    if not model.head.can_widen:
        widened = [name for name in heads.__all__ if getattr(getattr(heads, name), "can_widen", False)]
        raise ValueError(f"calibrate: the head is {type(model.head).__name__}; wanted one of {', '.join(widened)}.")
    if model.head.posterior is not None and not model.head.trains_posterior:
        raise ValueError(
            "calibrate: the head has a posterior; wanted none. Calibrate first, or give `bayes.fit` validation data."
        )
    if not data_sets.is_array(x):
        raise ValueError(f"x is a {type(x).__name__}; wanted an array.")
    y = labels.checked(y, model, side_inputs.count(x))
    labels.check_some_known(y, model)
    known = labels.known_rows(y, model)
    z = tf.concat([batch.features for batch in encode_batches(model, x, batch_size)], 0)[known]
    p_y, y = of_entries(model.head(z)), y[known]
    if isinstance(p_y, tfd.Normal):
        factor = stddev_factor(p_y.mean(), np.broadcast_to(p_y.stddev(), y.shape), y)
    elif model.head.posterior is not None:  # logits averaged over effects are not those that are divided
        factor = _search_factor(model.head, z, y)
    elif isinstance(model.head.unwrapped(), heads.Categorical):
        factor = temperature(p_y.logits_parameter(), y)
    elif isinstance(p_y, tfd.Bernoulli):
        logits = np.ravel(p_y.logits_parameter())
        factor = temperature(np.stack([np.zeros_like(logits), logits], -1), y.ravel().astype(int))
    else:
        factor = _search_factor(model.head, z, y)
    model.head.widen(factor)
    return factor


def _search_factor(head, z, y) -> float:
    """Returns the factor for `head.widen` with the lowest NLL, to about 1e-4 relative; does not change the head."""
    before = [weight.numpy() for weight in head.weights]

    def nll(log_factor):
        try:
            head.widen(math.exp(log_factor))
            return -np.mean(head(z).log_prob(y), dtype=float)
        finally:
            for weight, value in zip(head.weights, before, strict=True):
                weight.assign(value)

    # The NLL of a mixture may have several minima; a grid finds the neighbourhood of the lowest one.
    grid = np.linspace(-math.log(_LARGEST_FACTOR), math.log(_LARGEST_FACTOR), 41)
    values = np.nan_to_num([nll(point) for point in grid], nan=np.inf)
    best = int(np.argmin(values))
    if best in (0, len(grid) - 1):
        raise ValueError(
            f"The best factor is not between {1 / _LARGEST_FACTOR} and {_LARGEST_FACTOR:.0f}; wanted predictions that "
            "are neither all exact nor that far from y."
        )
    bounds = grid[best - 1], grid[best + 1]
    return float(np.exp(scipy.optimize.minimize_scalar(nll, bounds=bounds, method="bounded").x))


def temperature(logits, y) -> float:
    """Returns the temperature T > 0 with the lowest NLL of softmax(logits / T), to 1e-6 relative.

    Args:
      logits: `(n, K)`, from any model; log probabilities also work.
      y: Integer labels, `(n,)`.

    Raises:
      ValueError: If shapes or labels do not match, if a logit is not finite, or if no finite T is best: when every
        label has the highest logit (T = 0), or when the logits do not predict the labels at all (T = inf).
    """
    logits, y = checks.reals(logits, "logits"), checks.unmasked(y, "y")
    if logits.ndim != 2 or y.shape != logits.shape[:1] or not y.size:
        raise ValueError(f"logits has shape {logits.shape} and y has shape {y.shape}; wanted (n, K) and (n,), n >= 1.")
    if not np.isfinite(logits).all():
        raise ValueError(f"logits holds {logits[~np.isfinite(logits)][0]}, which is not finite; wanted finite numbers.")
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= logits.shape[1]:
        raise ValueError(
            f"y has {y.dtype} labels from {y.min()} to {y.max()}; wanted integers 0 .. {logits.shape[1] - 1}."
        )
    rows = np.arange(len(y))
    label, mean, highest = logits[rows, y].mean(), logits.mean(), logits.max(-1).mean()
    if label == highest:
        raise ValueError(f"The highest logit is right in all {len(y)} rows; wanted more rows, with some errors.")
    if label <= mean:  # the slope of the NLL in 1/T, at 1/T = 0
        raise ValueError(
            f"The labels' logits have mean {label:.4g}, which is not above the mean {mean:.4g} of all logits, so no T "
            "helps; wanted logits that predict y."
        )

    def nll(log_t):
        scaled = logits / np.exp(log_t)
        return np.mean(scipy.special.logsumexp(scaled, axis=-1) - scaled[rows, y])

    # The NLL is convex in 1/T, so it has one minimum in log T, too.
    scale = np.log(np.std(logits))
    found = scipy.optimize.minimize_scalar(nll, bracket=(scale - 1, scale + 1), method="brent", tol=1e-9)
    return float(np.exp(found.x))


def stddev_factor(mean, stddev, y) -> float:
    """Returns the factor s with the lowest NLL of Normal(mean, s stddev): the root mean square of (y - mean) / stddev.

    Args:
      mean, stddev: Predictions, `(n, ...)`, from any model.
      y: Responses of the same shape.

    Raises:
      ValueError: If the shapes differ, if a stddev is not above 0, or if every prediction is exact.
    """
    mean, stddev, y = checks.reals(mean, "mean"), checks.reals(stddev, "stddev"), checks.reals(y, "y")
    if not mean.shape == stddev.shape == y.shape or not y.size:
        shapes = f"mean has shape {mean.shape}, stddev has shape {stddev.shape} and y has shape {y.shape}"
        raise ValueError(f"{shapes}; they must match, with at least one row.")
    if not (stddev > 0).all():
        raise ValueError(f"stddev has values down to {np.min(stddev)}; wanted numbers above 0.")
    factor = float(np.sqrt(np.mean(((y - mean) / stddev) ** 2)))
    if not 0 < factor < np.inf:
        raise ValueError(f"The best factor is {factor}; wanted finite predictions that are not all exact.")
    return factor
