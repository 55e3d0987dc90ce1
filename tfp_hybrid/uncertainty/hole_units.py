"""What a hole and a number have in common: the unit in which a density counts beside a probability."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfp_hybrid.models import DensityModel
from tfp_hybrid.tables import Columns

_HALF_LOG_TWO_PI = 0.5 * np.log(2 * np.pi)
_MOST_ROWS = 2000
_NONE = 1e-12  # the probability of a hole


def log_widths(model: DensityModel, x: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the width of each column that has holes; 0 for the others, `(d,)`.

    p(x) of a row with a hole is a probability in this column, and p(x) of a row with a number is a density, in dollars
    or in cents. They can be compared if a density is multiplied by a width, and w is that of the usual numbers,

        w = 1 / E[ q(r) ],        r a number of the column, q their density, by the marginal of `tables.Column`,

    such as 2 sqrt(pi) standard deviations of a normal distribution, or K for K levels of the same probability.

    Args:
      model: A `DensityModel`. Only one with `tables.Columns` has holes.
      x: Rows, `(n, d)`.
      usual: The rows whose numbers are usual, `(m, d)`.
    """
    widths, columns = np.zeros(x.shape[1]), model.inputs_spec.columns
    if columns is None:
        return widths
    for j, column in enumerate(columns.columns):
        holes = np.isnan(usual[:, j])
        values = usual[~holes, j][:_MOST_ROWS]
        if len(values) and (holes.any() or np.isnan(x[:, j]).any()):
            alone = Columns([dataclasses.replace(column, has_holes=False, missing=_NONE)], "float64")
            z, log_det = alone.inverse_and_log_det(tf.constant(values[:, np.newaxis], tf.float64))
            log_density = log_det.numpy() - (0.5 * z.numpy() ** 2 + _HALF_LOG_TWO_PI).sum(-1)
            widths[j] = -np.log(np.mean(np.exp(log_density)))
    return widths
