"""Metrics of predictive distributions of numbers, from any model.

In all functions, `p_y` is a `tfd.Distribution` of n responses, such as `model.predict_distribution(x)[0]` or
`tfd.Normal(mean, stddev)`, and `y` holds the responses, `(n,)` or `(n, k)`. The entries of a vector response count
separately.
"""

import numpy as np
import scipy.stats
import sklearn.metrics
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.quantiles import is_discrete, of_entries, quantile
from tfp_hybrid.models import checks

__all__ = ["cdf", "crps", "interval_coverage", "nll", "pit", "regression_metrics", "rmse"]

tfd = tfp.distributions
_TAIL, _MOST_TERMS = 1e-6, 10_000  # of the sum for a count


def rmse(p_y: tfd.Distribution, y) -> float:
    """Returns the root mean squared error of the predictive mean, in the unit of y."""
    p_y, y = _checked(p_y, y)
    return float(sklearn.metrics.root_mean_squared_error(y.ravel(), np.ravel(p_y.mean())))


def nll(p_y: tfd.Distribution, y) -> float:
    """Returns the mean of -log p(y|x) in nats per response (a vector response counts once)."""
    marginal, y = _checked(p_y, y)
    log_prob = np.asarray(marginal.log_prob(y), float)
    return float(-log_prob.reshape(len(y), -1).sum(-1).mean())


def crps(p_y: tfd.Distribution, y, samples: int = 1000, seed: int = 0) -> float:
    """Returns the mean continuous ranked probability score, E|Y - y| - E|Y - Y'|/2, in the unit of y.

    It is computed in closed form for a Normal and a mixture of Normals, as a sum for counts (of at most 10,000
    terms), and otherwise estimated without bias from `samples` draws.

    Args:
      p_y: The predictive distribution of n responses.
      y: The responses, `(n,)` or `(n, k)`.
      samples: The number of draws from each p(y|x), at least 2.
      seed: The random seed of the draws.

    References:
      Gneiting and Raftery 2007, "Strictly Proper Scoring Rules, Prediction, and Estimation", eq. 20 and 21.
      Grimit, Gneiting, Berrocal and Johnson 2006, "The Continuous Ranked Probability Score for Circular Variables and
      its Application to Mesoscale Forecast Ensemble Verification", eq. 5, for mixtures.
    """
    p_y, y = _checked(p_y, y)
    if isinstance(p_y, tfd.Normal):
        return _mixture_crps(
            np.ones(1), *(np.asarray(v, float)[..., np.newaxis] for v in (p_y.mean(), p_y.stddev())), y
        )
    if isinstance(p_y, tfd.MixtureSameFamily) and isinstance(p_y.components_distribution, tfd.Normal):
        weights, parts = p_y.mixture_distribution.probs_parameter(), p_y.components_distribution
        return _mixture_crps(*(np.asarray(v, float) for v in (weights, parts.mean(), parts.stddev())), y)
    if is_discrete(p_y):
        low, high = quantile(p_y, [_TAIL, 1 - _TAIL])
        if np.max(high - low) < _MOST_TERMS:
            return _count_crps(p_y, y, low, high)
    if samples < 2:
        raise ValueError(f"samples is {samples}; wanted at least 2.")
    drawn = np.sort(np.asarray(p_y.sample(samples, seed=tfp.random.sanitize_seed([seed, 0])), float), axis=0)
    # With sorted draws, |Y - Y'| summed over ordered pairs weights each draw by the number of draws below and above it.
    weights = (2 * np.arange(samples) - samples + 1).reshape(-1, *[1] * y.ndim)
    spread = 2 * (weights * drawn).sum(0) / (samples * (samples - 1))
    return float(np.mean(np.abs(drawn - y).mean(0) - spread / 2))


def _mixture_crps(weights, means, stddevs, y) -> float:
    """Returns the mean CRPS of mixtures of Normals, with the components on the last axis."""

    def distance(mean, stddev):
        """E|X| for X ~ Normal(mean, stddev)."""
        ratio = mean / stddev
        return 2 * stddev * scipy.stats.norm.pdf(ratio) + mean * (2 * scipy.stats.norm.cdf(ratio) - 1)

    to_response = (weights * distance(y[..., np.newaxis] - means, stddevs)).sum(-1)
    pairs = range(means.shape[-1])
    between = sum(
        weights[..., i]
        * weights[..., j]
        * distance(means[..., i] - means[..., j], np.hypot(stddevs[..., i], stddevs[..., j]))
        for i in pairs
        for j in pairs
    )
    return float(np.mean(to_response - between / 2))


def _count_crps(p_y, y, low, high) -> float:
    """Returns the mean CRPS of counts, the sum of (P(Y <= k) - [y <= k])^2 over all whole numbers k.

    Below `low` P(Y <= k) is 0, and from `high` on it is 1, so that each k between them and y adds 1.
    """
    found = np.maximum(low - y, 0) + np.maximum(y - 1 - high, 0)
    for step in range(int(np.max(high - low)) + 1):
        k = low + step
        off = np.asarray(p_y.cdf(tf.cast(k, p_y.dtype)), float) - (y <= k)
        found += np.where(k <= high, off**2, 0)
    return float(np.mean(found))


def cdf(p_y: tfd.Distribution, y) -> tuple[np.ndarray, np.ndarray]:
    """Returns P(Y < y | x) and P(Y <= y | x), each of the shape of y.

    Args:
      p_y: The predictive distribution of n responses.
      y: The responses, `(n,)` or `(n, k)`.
    """
    p_y, y = _checked(p_y, y)
    y_in_dtype = tf.cast(y, p_y.dtype)
    try:
        up_to = np.asarray(p_y.cdf(y_in_dtype), float)
    except NotImplementedError:
        raise ValueError(f"p_y is a {type(p_y).__name__}, without a `cdf`; wanted a distribution with one.") from None
    return up_to - np.asarray(p_y.prob(y_in_dtype), float) if is_discrete(p_y) else up_to, up_to


def pit(p_y: tfd.Distribution, y, seed: int = 0) -> np.ndarray:
    """Computes the probability integral transform F(y|x), which is uniform on (0, 1) for calibrated predictions.

    For a discrete response, it is drawn uniformly between P(Y < y|x) and P(Y <= y|x).

    Args:
      p_y: The predictive distribution of n responses.
      y: The responses, `(n,)` or `(n, k)`.
      seed: The random seed of these draws.

    Returns:
      An array of the shape of y.
    """
    below, up_to = cdf(p_y, y)
    return below + (up_to - below) * np.random.default_rng(seed).uniform(size=up_to.shape)


def interval_coverage(p_y: tfd.Distribution, y, level=0.9) -> float | np.ndarray:
    """Returns the fraction of responses in the central predictive interval, from quantile (1-level)/2 to (1+level)/2.

    Args:
      p_y: The predictive distribution of n responses.
      y: The responses, `(n,)` or `(n, k)`.
      level: The probability of the interval, between 0 and 1, or several, `(m,)`.

    Returns:
      A number, or `(m,)` for several levels.
    """
    below, up_to = cdf(p_y, y)
    level = checks.reals(level, "level")
    if ((level <= 0) | (level >= 1)).any():
        raise ValueError(f"level is {level}; wanted above 0 and below 1.")
    # y is at least the lower quantile iff P(Y <= y) reaches it, and at most the upper one iff P(Y < y) does not.
    tail = (1 - level.reshape(-1, 1)) / 2
    inside = ((up_to.ravel() >= tail) & (below.ravel() < 1 - tail)).mean(-1)
    return inside if level.ndim else float(inside[0])


def regression_metrics(p_y: tfd.Distribution, y) -> dict[str, float]:
    """Returns the RMSE, NLL, CRPS and the coverage of the central 90 % interval."""
    return {"rmse": rmse(p_y, y), "nll": nll(p_y, y), "crps": crps(p_y, y), "coverage90": interval_coverage(p_y, y)}


def _checked(p_y, y):
    """Returns the distribution of single entries, and y as float64."""
    if not isinstance(p_y, tfd.Distribution):
        raise ValueError(f"p_y is a {type(p_y).__name__}; wanted a tfd.Distribution.")
    y = checks.reals(y, "y")
    if not y.size or not np.isfinite(y).all():
        raise ValueError("y is empty or holds numbers that are not finite; wanted at least one row of finite numbers.")
    p_y = of_entries(p_y)
    if p_y.event_shape.rank:
        raise ValueError(f"p_y is a {type(p_y).__name__} of vectors; wanted independent entries.")
    if tuple(p_y.batch_shape) != y.shape:
        raise ValueError(f"y has shape {y.shape}; wanted {tuple(p_y.batch_shape)}, the shape of p_y.")
    return p_y, y
