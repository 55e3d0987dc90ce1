"""`Columns`: the columns of a DataFrame as the event of a flow."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from tfp_hybrid.bijectors import FusedBijector, noise
from tfp_hybrid.tables import fitting, frames
from tfp_hybrid.tables.column import OFF_GRID, Column, from_bounds
from tfp_hybrid.tables.kinds import Kind
from tfp_hybrid.tables.marginals import Marginals

_BITS = 52  # of the uniform noise
_ZERO = np.float64(0)
_LOG_TWO_PI = np.log(2 * np.pi)


class Columns(noise.RowNoise, FusedBijector):
    """Maps rows of a table, with their categories, circles and holes, to vectors that are nearly standard normal.

    x is a row of float64 numbers, as `to_array` makes them from a DataFrame: codes 0 .. K-1 of categories (K stands for
    a level that was never seen), days for dates, minutes for times of day, and NaN in holes. With F the cumulative
    distribution of a column, as the training rows had it,

        number, date     z = Phi^-1(F(x + r u))                     r the resolution, 0 for numbers on no grid
        category         z = Phi^-1(F(c + u))
        circle           z = rho (cos a, sin a),  a = 2 pi F(x + r u),  rho^2 = -2 log u'
        hole             z ~ N(0, 1), two of them for a circle
        holes            one more z for each column that had some, that of the category "is there a hole?"

    so that the columns one by one are normal already, and the flow has to learn only how they depend on one another.
    u and u' are uniform on [0, 1): new in training, and otherwise a fixed pseudo-random function of the row, as in
    `Dequantize`. The density of the noise is divided out, so

        E_u[ log p_z(f(z)) + log|det df/dz| + log|det dz/dx| ]  <=  log p(x)

    is a lower bound, in nats: of probabilities for categories and masks, of densities for numbers. Numbers on a grid
    have the probability of their cell divided by r. What has no place in a column (a hole where there were none, a
    number that is not on the grid, a level that was never seen) has the probability 1 / (2 (n + 1)) after n rows; a
    number beyond a bound has log p(x) = -inf.

    Args:
      columns: A `Column` for each, from `from_frame`.
      dtype: The dtype of z.
      name: The prefix of the names of the ops.

    Example:

    >>> from tfp_hybrid import tables
    >>> frame = pd.DataFrame({"age": [31, 45, None, 62], "plan": ["basic", "gold", "basic", "basic"]})
    >>> columns = tables.Columns.from_frame(frame)
    >>> columns.event_shape, columns.latent_shape
    (TensorShape([2]), TensorShape([3]))
    >>> flow = bijectors.FusedChain([columns, bijectors.RealNVP((3,))], (2,))

    References:
      Theis, van den Oord and Bethge 2016, section 3.1 (dequantization); Hoogeboom, Cohen and Tomczak 2020, "Learning
      Discrete Distributions by Dequantization", for the bound.
    """

    is_exact = False

    def __init__(self, columns: Sequence[Column], dtype: str = "float32", name: str = "columns"):
        parameters = dict(locals())
        self.columns = tuple(columns)
        kinds = [column.kind for column in self.columns]
        self._lines = np.array([i for i, kind in enumerate(kinds) if not kind.is_circle], int)
        self._circles = np.array([i for i, kind in enumerate(kinds) if kind.is_circle], int)
        self._masks = np.array([i for i, column in enumerate(self.columns) if column.has_holes], int)
        size = len(self._lines) + 2 * len(self._circles) + len(self._masks)
        super().__init__((len(self.columns),), (size,), parameters=parameters, name=name)
        self._float = tf.as_dtype(dtype)
        self._random_state = noise.random_state(name)
        self._draw = noise.draw_number(name)
        self._hash_weights = noise.hash_constants(2 * len(self.columns))[0]
        self._hash_offsets = noise.hash_constants(size)[1]
        masks = [self.columns[i].mask for i in self._masks]
        self._of_lines = Marginals([self.columns[i].marginal for i in self._lines] + masks)
        self._of_circles = Marginals([self.columns[i].marginal for i in self._circles])

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        kinds: Mapping[str, Kind] | None = None,
        y: np.ndarray | None = None,
        dtype: str = "float32",
        name: str = "columns",
    ) -> "Columns":
        """Learns the columns of a DataFrame.

        Args:
          frame: A DataFrame, or anything with its interchange protocol.
          kinds: Kinds of columns by name, where they are not those that `infer_kinds` finds.
          y: Responses, `(n,)`, numbers or codes of classes. If given, the levels of categories without an order are
            ordered by them: neighbours have similar responses, which makes p(y|x) easier to learn.
          dtype: The dtype of z.
          name: The prefix of the names of the ops.

        Raises:
          ValueError: If a name occurs twice or a column cannot be used; the message says which and why.
        """
        return cls(fitting.learn(frames.as_frame(frame), kinds, y), dtype, name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def is_random(self) -> bool:
        """Whether z depends on noise: it does not if all columns are numbers on no grid, without holes."""
        return any(column.step > 0 or column.has_holes or column.kind.is_circle for column in self.columns)

    def table(self) -> pd.DataFrame:
        """Returns what was learned, one row for each column: its kind, its dtype and the share of holes."""
        rows = [(c.name, c.kind.describe(), c.dtype, c.missing if c.has_holes else 0.0) for c in self.columns]
        return pd.DataFrame(rows, columns=["column", "kind", "dtype", "holes"]).set_index("column")

    def to_array(self, frame, argument: str = "x") -> np.ndarray:
        """Converts a DataFrame to rows x, `(n, d)`, float64; columns are found by name.

        Raises:
          ValueError: If a column is missing, is not known or occurs twice, or if a value is of another kind.
        """
        frame = frames.as_frame(frame, argument)
        present = frames.column_names(frame, argument)
        missing = [name for name in self.names if name not in present]
        extra = [name for name in present if name not in self.names]
        if missing or extra:
            found = f"lacks the columns {missing}" if missing else f"has the columns {extra}, which are not known"
            raise ValueError(f"{argument} {found}; wanted {list(self.names)}.")
        parsed = [
            column.kind.parse(frame.iloc[:, present.index(column.name)], f"{argument}: the column {column.name!r}")
            for column in self.columns
        ]
        return np.stack(parsed, axis=1)

    def check_array(self, x: np.ndarray, argument: str = "x") -> np.ndarray:
        """Returns rows x, `(n, d)`, as float64; raises ValueError for a value that its column cannot have."""
        x = x.astype(float, copy=False)
        for column, values in zip(self.columns, x.T, strict=True):
            bad = ~(np.isfinite(values) | np.isnan(values)) | column.kind.is_impossible(values)
            if bad.any():
                row = int(bad.argmax())
                wanted = f"a {column.kind.describe()}, or NaN in holes"
                raise ValueError(f"{argument} holds {values[row]} in row {row} of {column.name!r}; wanted {wanted}.")
        return x

    def has_new(self, x) -> np.ndarray:
        """Returns which rows x have a level, a number off the grid or a hole in a column that no training row had.

        Their log p(x) is low if categories are to blame. But it is a density, so a hole in place of a number may raise
        it: the probability of a hole has no unit, and that of a number is per unit of the column.
        """
        x = np.asarray(x, float)
        new = np.zeros(len(x), bool)
        for column, values in zip(self.columns, x.T, strict=True):
            hole = np.isnan(values)
            new |= hole & (not column.has_holes)
            new |= ~hole & column.is_off_grid(np.where(hole, column.origin, values))
        return new

    def to_frame(self, x) -> pd.DataFrame:
        """Converts rows x, `(n, d)`, to a DataFrame with the names, dtypes and levels of the training data."""
        x = np.asarray(x, float)
        columns = zip(self.columns, x.T, strict=True)
        return pd.DataFrame({column.name: column.kind.format(values, column.dtype) for column, values in columns})

    def _inverse_dtype(self, dtype, **kwargs):
        return self._float

    def _forward_dtype(self, dtype, **kwargs):
        return tf.float64

    def _inverse_and_log_det(self, x, training=False):
        batch_shape = self.batch_shape_of(x)
        x = tf.reshape(tf.cast(x, tf.float64), [-1, len(self.columns)])
        hole = tf.math.is_nan(x)
        x = tf.where(hole, _ZERO, x)
        u = self._noise(x, hole, training)
        count = len(self._lines)
        u_lines, u_circles, u_masks = tf.split(u, [count, 2 * len(self._circles), len(self._masks)], -1)
        value, log_det = self._cells(x, hole, u_lines)
        mask = tf.cast(tf.gather(hole, self._masks, axis=1), tf.float64)
        z, log_slope = self._of_lines.to_normal(tf.concat([value, mask + u_masks], -1))
        # Holes get noise, whose density is divided out.
        line_hole = tf.gather(hole, self._lines, axis=1)
        filled = tf.math.ndtri(u_lines)
        log_slope_lines = tf.where(line_hole, 0.5 * (filled**2 + _LOG_TWO_PI), log_slope[:, :count])
        z_lines = tf.where(line_hole, filled, z[:, :count])
        log_det += tf.reduce_sum(log_slope_lines, -1) + tf.reduce_sum(log_slope[:, count:], -1)
        z_circles, log_det_circles = self._to_plane(x, hole, u_circles)
        z = tf.concat([z_lines, z_circles, z[:, count:]], -1)
        z = tf.reshape(z, tf.concat([batch_shape, self.latent_shape], 0))
        log_det = tf.reshape(log_det + log_det_circles, batch_shape)
        return tf.cast(z, self._float), tf.cast(log_det, self._float)

    def _cells(self, x, hole, u):
        """The value that stands for each number, from its cell; and the log probability of what has no place."""
        lines = [self.columns[i] for i in self._lines]
        step = np.array([column.step for column in lines])
        origin = np.array([column.origin for column in lines])
        x_lines, line_hole = tf.gather(x, self._lines, axis=1), tf.gather(hole, self._lines, axis=1)
        places = (x_lines - origin) / np.where(step > 0, step, 1.0)
        off_grid = (step > 0) & (tf.abs(places - tf.round(places)) > OFF_GRID) & ~line_hole
        rare = np.log([column.rare for column in lines]).reshape(-1)
        log_det = tf.reduce_sum(tf.where(off_grid, tf.constant(rare), _ZERO), -1)
        unmasked = np.setdiff1d(np.arange(len(self.columns)), self._masks)
        missing = np.array([self.columns[i].missing for i in unmasked])
        seldom = tf.where(tf.gather(hole, unmasked, axis=1), np.log(missing), np.log1p(-missing))
        log_det += tf.reduce_sum(seldom, -1)
        value = x_lines + step * u
        for place, column in enumerate(lines):
            if column.bounded:
                linked, log_slope = from_bounds(column.kind, value[:, place])
                log_det += tf.where(line_hole[:, place], _ZERO, log_slope)
                value = tf.concat([value[:, :place], linked[:, None], value[:, place + 1 :]], -1)
        return value, log_det

    def _to_plane(self, x, hole, u):
        """z of circles, `(n, 2 c)`, and the sum of their log-dets."""
        columns = [self.columns[i] for i in self._circles]
        period = np.array([column.kind.period for column in columns])
        step = np.array([column.step for column in columns])
        u_place, u_radius = u[:, ::2], u[:, 1::2]
        origin = np.array([column.kind.origin for column in columns])
        v = tf.math.floormod(tf.gather(x, self._circles, axis=1) - origin + step * u_place, period)
        on_circle, log_slope = self._of_circles.to_uniform(v)
        line_hole = tf.gather(hole, self._circles, axis=1)
        turns = tf.where(line_hole, u_place, on_circle)
        radius = tf.sqrt(-2 * tf.math.log(u_radius))
        log_det = _LOG_TWO_PI + 0.5 * radius**2 + tf.where(line_hole, _ZERO, log_slope)
        angle = 2 * np.pi * turns
        z = tf.stack([radius * tf.cos(angle), radius * tf.sin(angle)], -1)
        return tf.reshape(z, [tf.shape(x)[0], 2 * len(columns)]), tf.reduce_sum(log_det, -1)

    def _forward_and_log_det(self, z, training=False):
        batch_shape = tf.shape(z)[:-1]
        z = tf.reshape(tf.cast(z, tf.float64), [-1, self.latent_shape[0]])
        count, plane = len(self._lines), 2 * len(self._circles)
        v = self._of_lines.from_normal(tf.concat([z[:, :count], z[:, count + plane :]], -1))
        is_hole = dict(zip(self._masks, tf.unstack(v[:, count:] >= 1, axis=1), strict=True))
        z_circles = tf.reshape(z[:, count : count + plane], [tf.shape(z)[0], plane // 2, 2])
        turns = tf.math.floormod(tf.math.atan2(z_circles[..., 1], z_circles[..., 0]) / (2 * np.pi), 1.0)
        around = self._of_circles.from_uniform(turns)
        values = {}
        for place, i in enumerate(self._lines):
            values[i] = self.columns[i].value(v[:, place])
        for place, i in enumerate(self._circles):
            values[i] = self.columns[i].value(around[:, place])
        nan = tf.constant(np.nan, tf.float64)
        x = [tf.where(is_hole[i], nan, values[i]) if i in is_hole else values[i] for i in range(len(self.columns))]
        x = tf.reshape(tf.stack(x, -1), tf.concat([batch_shape, self.event_shape], 0))
        return x, -tf.cast(self._inverse_and_log_det(x)[1], self._float)

    def _noise(self, x, hole, training):
        shape = [tf.shape(x)[0], self.latent_shape[0]]
        if training:
            return tf.maximum(noise.fresh_uniform(self._random_state, shape, tf.float64), 2.0**-_BITS)
        rows = tf.concat([tf.bitcast(x + 0.0, tf.int64), tf.cast(hole, tf.int64)], -1) + self._draw
        return noise.row_uniform(rows, self._hash_weights, self._hash_offsets, tf.float64, _BITS) + 2.0 ** -(_BITS + 1)
