"""Quantiles of the distributions that heads return, counts and mixtures included, of which TFP has none."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

tfd = tfp.distributions
# Discrete distributions whose dtype is a floating one.
_COUNTS = (tfd.Binomial, tfd.FiniteDiscrete, tfd.Geometric, tfd.NegativeBinomial, tfd.Poisson)
_STEPS = 60  # that double a step, or halve what it found


def of_entries(distribution: tfd.Distribution) -> tfd.Distribution:
    """Returns the distribution of single entries, of one of independent entries."""
    while isinstance(distribution, tfd.Independent):
        distribution = distribution.distribution
    return distribution


def is_discrete(distribution: tfd.Distribution) -> bool:
    """Returns whether a distribution is one of whole numbers."""
    if isinstance(distribution, tfd.MixtureSameFamily):
        return is_discrete(distribution.components_distribution)
    if isinstance(distribution, tfd.Inflated):
        return is_discrete(distribution.distribution)
    return distribution.dtype.is_integer or isinstance(distribution, _COUNTS)


def quantile(distribution: tfd.Distribution, q) -> np.ndarray:
    """Returns the smallest values that the response is at or below with probability q.

    TFP's `quantile` where there is one; otherwise by bisection of the cdf, to the precision of its dtype.

    Args:
      distribution: That of a number, or of independent numbers, with batch shape `(n,)`.
      q: Probabilities in (0, 1), of any shape.

    Returns:
      `(*q.shape, n, ...)`, whole numbers for a discrete distribution, in the dtype of its mean.

    Raises:
      ValueError: If the distribution is one of classes or vectors, or without a cdf.
    """
    entries = of_entries(distribution)
    of_classes = isinstance(entries, tfd.Categorical | tfd.OneHotCategorical)
    if of_classes or entries.event_shape.rank:
        kind = "classes" if of_classes else "vectors"
        raise ValueError(f"p(y|x) is a {type(entries).__name__}, of {kind}; wanted one of numbers, with quantiles.")
    mean = tf.convert_to_tensor(entries.mean())
    q = np.asarray(q, mean.dtype.as_numpy_dtype)
    q = tf.constant(np.broadcast_to(q.reshape(q.shape + mean.shape.rank * (1,)), q.shape + tuple(mean.shape)))
    if is_discrete(entries):
        low = tf.fill(tf.shape(q), tf.constant(-1, mean.dtype))
        return _search(entries, q, low, tf.ones_like(q), whole=True)
    try:
        return entries.quantile(q).numpy()
    except NotImplementedError:
        spread = tf.broadcast_to(entries.stddev(), tf.shape(q))
        low, step = mean - spread, spread
        for _ in range(_STEPS):
            above = _reaches(entries, low, q)
            if not tf.reduce_any(above):
                break
            step = 2 * step
            low = tf.where(above, mean - step, low)
        return _search(entries, q, low, spread, whole=False)


def _reaches(distribution, values, q):
    try:
        return distribution.cdf(tf.cast(values, distribution.dtype)) >= q
    except NotImplementedError:
        raise ValueError(
            f"p(y|x) is a {type(distribution).__name__}, without a `cdf`; wanted a distribution with one."
        ) from None


def _search(distribution, q, low, step, whole):
    """Bisects the cdf, which is below q at `low`; NaN where it never reaches q, or is NaN."""
    high = low + step
    for _ in range(_STEPS):
        reached = _reaches(distribution, high, q)
        if tf.reduce_all(reached):
            break
        low, step = tf.where(reached, low, high), 2 * step
        high = tf.where(reached, high, low + step)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        middle = tf.floor(middle) if whole else middle
        if tf.reduce_all((middle <= low) | (middle >= high)):
            break
        reached = _reaches(distribution, middle, q)
        low, high = tf.where(reached, low, middle), tf.where(reached, middle, high)
    return tf.where(_reaches(distribution, high, q), high, np.nan).numpy()
