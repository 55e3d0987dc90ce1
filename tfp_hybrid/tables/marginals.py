"""`Marginal`: the map of one column to a standard normal, by knots; and its fit."""

import dataclasses

import numpy as np
import scipy.special
import tensorflow as tf

from tfp_hybrid import registry

_MOST_CELLS, _ROWS_PER_CELL, _MOST_KNOTS = 256, 20, 64
_HALF_LOG_TWO_PI = 0.5 * np.log(2 * np.pi)
_ZERO, _ONE = np.float64(0), np.float64(1)


@dataclasses.dataclass(frozen=True)
class Marginal:
    """A monotone map from values v to z, through knots.

    Between two knots, either the probability below v or its normal quantile z is linear in v. Beyond the ends z grows
    with the logarithm, z = z_k + log(1 + s (v - v_k)): one wild value shall not throw the flow and the head off. At an
    end whose probability is 0 or 1 there is nothing beyond, and the slope is 0.

    Attributes:
      knots: Values, increasing, `(k,)`.
      probability: The probability below each, `(k,)`.
      steps: Whether the probability is linear in each interval, as in a histogram, `(k - 1,)`; otherwise z is.
      slopes: The slope s just below the first knot and just above the last one, `(2,)`.
    """

    knots: np.ndarray
    probability: np.ndarray
    steps: np.ndarray
    slopes: np.ndarray

    def __init_subclass__(cls, **kwargs):
        raise TypeError("Marginal is final.")


registry.register(Marginal)


def of_cells(
    edges: np.ndarray, counts: np.ndarray, rare: float, tails: tuple[bool, bool], prior: float = 1.0
) -> Marginal:
    """Returns the marginal of a histogram.

    Args:
      edges: The ends of the cells, `(k + 1,)`.
      counts: The rows in each, `(k,)`.
      rare: The probability beyond each end that has a tail.
      tails: Whether there is a tail below and above.
      prior: How many rows are added, spread over all cells.
    """
    smoothed = counts + prior / len(counts)
    low, high = (rare if tail else 0.0 for tail in tails)
    inside = np.concatenate([[0.0], np.cumsum(smoothed) / smoothed.sum()])
    inside[-1] = 1.0
    probability = low + (1 - low - high) * inside
    return Marginal(edges.astype(float), probability, np.ones(len(counts), bool), _slopes(edges, probability))


def of_values(values: np.ndarray, resolution: float | None, rare: float, rng: np.random.Generator) -> Marginal:
    """Returns the marginal of numbers, by their quantiles at knots that are evenly spaced in z.

    A value that many rows have has knots at both ends of its cell.

    Args:
      values: The numbers, `(n,)`.
      resolution: The width of the cell of each number, from which the dequantization draws, or None.
      rare: The probability beyond each end.
      rng: Draws the dequantization.
    """
    drawn = np.sort(values if resolution is None else values + resolution * rng.uniform(size=len(values)))
    size = int(np.clip(np.sqrt(len(drawn)), 8, _MOST_KNOTS))
    wanted = scipy.special.ndtr(np.linspace(*scipy.special.ndtri([rare, 1 - rare]), size))
    knots, atoms = [np.quantile(drawn, wanted)], []
    if resolution is not None:
        unique, counts = np.unique(values, return_counts=True)
        atoms = unique[counts > 2 * len(values) / size]
        knots += [atoms, atoms + resolution]
    knots = np.unique(np.concatenate(knots))
    # Knots closer than this would have a slope that no float can follow.
    apart = 1e-9 * max(knots[-1] - knots[0], np.abs(knots).max(), np.finfo(float).tiny)
    knots = knots[np.concatenate([[True], np.diff(knots) > apart])]
    if len(knots) < 2:
        near = max(0.5, 1e-6 * abs(knots[0]))
        knots = np.array([knots[0] - near, knots[0] + near])
    counts = np.diff(np.searchsorted(drawn, knots[1:-1]), prepend=0, append=len(drawn)) + 1 / len(knots)
    inside = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    inside[-1] = 1.0
    probability = rare + (1 - 2 * rare) * inside
    steps = np.isin(knots[:-1], atoms)
    return Marginal(knots, probability, steps, _slopes(knots, probability))


def of_grid(values: np.ndarray, resolution: float, rare: float, lower=None, upper=None) -> Marginal | None:
    """Returns the histogram of numbers on a grid, up to the bounds; None if it has too many cells for so few rows."""
    low = values.min() if lower is None else min(lower, values.min())
    high = values.max() if upper is None else max(upper, values.max())
    cells = round((high - low) / resolution) + 1
    if cells > min(_MOST_CELLS, max(2, len(values) / _ROWS_PER_CELL)):
        return None
    counts = np.bincount(np.round((values - low) / resolution).astype(int), minlength=cells)
    return of_cells(low + resolution * np.arange(cells + 1), counts, rare, (lower is None, upper is None))


def of_circle(values: np.ndarray, resolution: float | None, period: float, rng: np.random.Generator) -> Marginal:
    """Returns the marginal of numbers in [0, period): uniform where z would be normal, without ends."""
    cells = round(period / resolution) if resolution else _MOST_CELLS + 1
    if cells <= min(_MOST_CELLS, max(2, len(values) / _ROWS_PER_CELL)):
        counts = np.bincount(np.clip((values / resolution).astype(int), 0, cells - 1), minlength=cells)
        return of_cells(period / cells * np.arange(cells + 1), counts, 0.0, (False, False))
    drawn = values if resolution is None else (values + resolution * rng.uniform(size=len(values))) % period
    size = int(np.clip(np.sqrt(len(drawn)), 8, _MOST_KNOTS))
    inner = np.unique(np.quantile(drawn, np.arange(1, size) / size))
    knots = np.concatenate([[0.0], inner[(inner > 1e-6 * period) & (inner < (1 - 1e-6) * period)], [period]])
    return of_cells(knots, np.histogram(drawn, knots)[0], 0.0, (False, False))


def _slopes(knots, probability):
    """The slopes of both tails: those of the line from the median to each end."""
    z = scipy.special.ndtri(np.clip(probability, 1e-12, 1 - 1e-12))
    middle = np.interp(0.0, z, knots)
    least = 1e-9 * (knots[-1] - knots[0])
    return np.array([-z[0] / max(middle - knots[0], least), z[-1] / max(knots[-1] - middle, least)])


class Marginals:
    """The maps of several columns side by side, on tensors `(n, d)`.

    Args:
      marginals: A `Marginal` for each column.
    """

    def __init__(self, marginals: list[Marginal]):
        longest = max((len(one.knots) for one in marginals), default=2)

        def table(rows, length, fill):
            padded = np.full((len(marginals), length), fill)
            for row, values in zip(padded, rows, strict=True):
                row[: len(values)] = values
            return padded

        self._knots = table([one.knots for one in marginals], longest, np.inf)
        self._probability = table([one.probability for one in marginals], longest, 2.0)
        self._steps = table([one.steps.astype(float) for one in marginals], longest - 1, 0.0) > 0
        self._z = np.where(self._probability > 1, np.inf, scipy.special.ndtri(np.minimum(self._probability, 1)))
        self._last = np.array([len(one.knots) - 2 for one in marginals], np.int32)
        self._ends = np.array([one.knots[[0, -1]] for one in marginals]).reshape(-1, 2).T
        self._z_ends = np.array([scipy.special.ndtri(one.probability[[0, -1]]) for one in marginals]).reshape(-1, 2).T
        self._finite_z_ends = np.where(np.isfinite(self._z_ends), self._z_ends, 0.0)
        self._slopes = np.array([one.slopes for one in marginals]).reshape(-1, 2).T

    def to_normal(self, v) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns z and log dz/dv of each entry, in nats, `(n, d)`."""
        low, high, left, right, steps, z_left, z_right = self._interval(v, self._knots)
        share = tf.clip_by_value((v - low) / (high - low), 0, 1)
        p = tf.clip_by_value(left + share * (right - left), 1e-300, 1 - 1e-16)
        z_steps = tf.math.ndtri(p)
        log_steps = tf.math.log((right - left) / (high - low)) + 0.5 * z_steps**2 + _HALF_LOG_TWO_PI
        finite_left, finite_right = (tf.where(tf.math.is_finite(z), z, _ZERO) for z in (z_left, z_right))
        rise = tf.where(steps, _ONE, finite_right - finite_left)
        z = tf.where(steps, z_steps, finite_left + share * rise)
        log_slope = tf.where(steps, log_steps, tf.math.log(rise / (high - low)))
        return self._beyond(v, z, log_slope)

    def from_normal(self, z) -> tf.Tensor:
        """Returns v of each entry, `(n, d)`."""
        low, high, left, right, steps, z_left, z_right = self._interval(z, self._z)
        p = 0.5 * tf.math.erfc(-z / np.sqrt(2))
        finite_left, finite_right = (tf.where(tf.math.is_finite(one), one, _ZERO) for one in (z_left, z_right))
        rise = tf.where(steps, _ONE, finite_right - finite_left)
        share = tf.where(steps, (p - left) / (right - left), (z - finite_left) / rise)
        v = low + tf.clip_by_value(share, 0, 1) * (high - low)
        return self._back_beyond(z, v)

    def to_uniform(self, v) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the probability below v, for histograms without tails, and the log of its slope, `(n, d)`."""
        low, high, left, right, *_ = self._interval(v, self._knots)
        return left + (v - low) / (high - low) * (right - left), tf.math.log((right - left) / (high - low))

    def from_uniform(self, probability) -> tf.Tensor:
        """Returns v for the probability below it, for histograms without tails, `(n, d)`."""
        low, high, left, right, *_ = self._interval(probability, self._probability)
        return low + (probability - left) / (right - left) * (high - low)

    def _interval(self, values, table):
        """The ends of the interval of each value: of v, of the probability, whether it is a step, and of z."""
        index = tf.transpose(tf.searchsorted(tf.constant(table), tf.transpose(values), side="right")) - 1
        index = tf.clip_by_value(index, 0, self._last)

        def at(rows, index):
            return tf.transpose(tf.gather(tf.constant(rows), tf.transpose(index), batch_dims=1, axis=1))

        ends = [(at(rows, index), at(rows, index + 1)) for rows in (self._knots, self._probability, self._z)]
        return (*ends[0], *ends[1], at(self._steps, index), *ends[2])

    def _beyond(self, v, z, log_slope):
        """Replaces z and log dz/dv of values beyond the ends."""
        for side, sign in ((0, -1.0), (1, 1.0)):
            away = sign * (v - self._ends[side])
            log_slope = tf.where((away > 0) & ~np.isfinite(self._z_ends[side]), np.float64(-np.inf), log_slope)
            outside = (away > 0) & np.isfinite(self._z_ends[side])
            steps = tf.math.log1p(self._slopes[side] * tf.maximum(away, 0))
            z = tf.where(outside, self._finite_z_ends[side] + sign * steps, z)
            log_slope = tf.where(outside, np.log(self._slopes[side]) - steps, log_slope)
        return z, log_slope

    def _back_beyond(self, z, v):
        """Replaces v of z beyond the ends."""
        for side, sign in ((0, -1.0), (1, 1.0)):
            away = sign * (z - self._finite_z_ends[side])
            outside = (away > 0) & np.isfinite(self._z_ends[side])
            v = tf.where(outside, self._ends[side] + sign * tf.math.expm1(tf.maximum(away, 0)) / self._slopes[side], v)
        return v
