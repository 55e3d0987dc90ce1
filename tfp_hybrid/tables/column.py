"""`Column`: one column of a table, as it was learned."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfp_hybrid import registry
from tfp_hybrid.tables import marginals
from tfp_hybrid.tables.kinds import Category, Kind

_TINY = 1e-300
OFF_GRID = 1e-3  # of a step


@dataclasses.dataclass(frozen=True)
class Column:
    """What was learned about one column.

    Attributes:
      name: Its name.
      kind: Its kind, without anything left open.
      dtype: The dtype of its values.
      has_holes: Whether there were holes, so that a mask is modelled, too.
      missing: The probability of a hole; that of what was never seen, if there were none.
      origin: A number on the grid of its resolution.
      rare: The probability of a number that is not on this grid.
      bounded: Whether the distance from the bounds is mapped by a logarithm or logit before `marginal`.
      marginal: Its `Marginal`, or that of the circle.
    """

    name: str
    kind: Kind
    dtype: str
    has_holes: bool
    missing: float
    origin: float
    rare: float
    bounded: bool
    marginal: marginals.Marginal

    @property
    def step(self) -> float:
        """The resolution, or 0 for numbers on no grid."""
        return self.kind.resolution or 0.0

    def is_off_grid(self, values: np.ndarray) -> np.ndarray:
        """Returns which numbers are not on the grid of the resolution, and which codes stand for an unseen level."""
        if isinstance(self.kind, Category):
            return values >= len(self.kind.levels)
        if not self.step:
            return np.zeros(len(values), bool)
        places = (values - self.origin) / self.step
        return np.abs(places - np.round(places)) > OFF_GRID

    @property
    def mask(self) -> marginals.Marginal:
        """The marginal of whether there is a hole."""
        shares = np.array([1 - self.missing, self.missing])
        return marginals.of_cells(np.arange(3), shares, 0.0, (False, False), prior=0.0)

    def value(self, v) -> tf.Tensor:
        """Returns the value that v, which `marginal` made, stands for: that of its cell."""
        kind, step = self.kind, self.step
        if self.bounded:
            v = _into_bounds(kind, v)
        if kind.is_circle:
            v = tf.floor(v / step + 1e-9) * step if step else v
            return kind.origin + tf.math.floormod(v, kind.period)
        if isinstance(kind, Category):
            return tf.clip_by_value(tf.floor(v), 0, len(kind.levels) - 1)
        if step:
            v = self.origin + step * tf.floor((v - self.origin) / step + 1e-9)
        lower, upper = bounds(kind)
        v = v if lower is None else tf.maximum(v, tf.constant(lower, v.dtype))
        return v if upper is None else tf.minimum(v, tf.constant(upper, v.dtype))


registry.register(Column)


def bounds(kind: Kind) -> tuple[float | None, float | None]:
    """Returns the bounds of a kind; None where there is none."""
    return getattr(kind, "lower", None), getattr(kind, "upper", None)


def from_bounds(kind: Kind, v) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the log, or with two bounds the logit, of v's distance from the bounds, and the log of its slope."""
    lower, upper = bounds(kind)
    above = None if lower is None else v - lower
    below = None if upper is None else upper + (kind.resolution or 0.0) - v
    logs = [tf.math.log(tf.maximum(part, _TINY)) for part in (above, below) if part is not None]
    inside = tf.reduce_all([part > 0 for part in (above, below) if part is not None], 0)
    slope = -tf.add_n(logs)
    if len(logs) == 2:
        linked, slope = logs[0] - logs[1], slope + np.log(upper + (kind.resolution or 0.0) - lower)
    else:
        linked = logs[0] if below is None else -logs[0]
    return linked, tf.where(inside, slope, tf.constant(-np.inf, v.dtype))


def _into_bounds(kind, linked):
    lower, upper = bounds(kind)
    upper = None if upper is None else upper + (kind.resolution or 0.0)
    if lower is not None and upper is not None:
        return lower + (upper - lower) * tf.sigmoid(linked)
    return lower + tf.exp(linked) if upper is None else upper - tf.exp(-linked)
