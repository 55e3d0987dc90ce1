"""Normal scores: increasing maps, learned from a sample, that make each of its columns standard normal."""

import numpy as np
import scipy.special
import tensorflow as tf

_HIGHEST = 3.2  # standard deviations, where a large sample ends
_KNOTS = 65
_IN_TAIL = 6  # knots that give the slope beyond the outermost ones


def knots_of(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the pieces of the maps, which are linear between quantiles, and beyond them go on as in the tail.

    Args:
      sample: `(n, k)`, finite.

    Returns:
      The sorted quantiles `(k, m)`; and for each of the m + 1 pieces, `(k, m + 1)` each, where it begins and the normal
      score there, together `(2, k, m + 1)`; and its slope.
    """
    grid = np.linspace(-_HIGHEST, _HIGHEST, _KNOTS)
    shares = scipy.special.ndtr(grid)
    inside = (shares > 1 / len(sample)) & (shares < 1 - 1 / len(sample))
    grid, values = grid[inside], np.quantile(sample, shares[inside], axis=0).T
    least = 1e-6 * (np.abs(values).max(-1, keepdims=True) + 1e-9)
    # Equal values, as of a statistic that takes few, are set apart, so that the slopes are finite.
    values = np.maximum.accumulate(values - least * np.arange(len(grid)), -1) + least * np.arange(len(grid))
    tail = min(_IN_TAIL, len(grid)) - 1
    slopes = np.diff(grid) / np.diff(values)
    low = (grid[tail] - grid[0]) / (values[:, tail] - values[:, 0])
    high = (grid[-1] - grid[-1 - tail]) / (values[:, -1] - values[:, -1 - tail])
    begins = np.concatenate([values[:, :1], values], -1)
    scores = np.broadcast_to(np.r_[grid[:1], grid], begins.shape)
    return values, np.stack([begins, scores]), np.c_[low, slopes, high]


def normal_scores(x, values, origins, slopes) -> tf.Tensor:
    """Returns the normal scores of x, `(n, k)`, by the pieces of `knots_of`."""
    columns = tf.transpose(x)
    piece = tf.searchsorted(values, columns, side="right")
    begin, score, slope = (tf.gather(part, piece, batch_dims=1) for part in (origins[0], origins[1], slopes))
    return tf.transpose(score + (columns - begin) * slope)
