"""`Spline`, a rational-quadratic spline with trained knots: a flexible monotone map of each feature."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.arguments import check_count
from tfp_hybrid.bijectors import one_pass
from tfp_hybrid.bijectors.base import FusedBijector

tfb = tfp.bijectors

_LEAST = 1e-2  # the least slope of a knot, and the least width and height of a bin relative to their means


class Spline(FusedBijector):
    """A monotone rational-quadratic spline for each feature, and the identity outside [-bound, bound].

        inverse:  z_i = g_i(x_i)        log|det dz/dx| = sum_i log g_i'(x_i)

    g_i passes through `bins` + 1 knots, whose positions and slopes are trained. It starts as the identity.

    Args:
      event_shape: The shape of one data point, such as `(d,)`.
      bins: The number of pieces.
      bound: The end of the interval, in the unit of x. Standardize x first, for example with `ActNorm`.
      dtype: The dtype of the weights.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If there are fewer than two bins, or if the bound is not positive.

    References:
      Durkan, Bekasov, Murray and Papamakarios 2019, "Neural Spline Flows".
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        bins: int = 16,
        bound: float = 4.0,
        dtype: str = "float32",
        name: str = "spline",
    ):
        parameters = dict(locals())
        check_spline("Spline", bins, bound)
        super().__init__(event_shape, parameters=parameters, name=name)
        self.bins, self.bound = bins, bound
        shape = tuple(self.event_shape)
        self.raw_widths = self.add_weight(tf.zeros((*shape, bins), dtype), "raw_widths")
        self.raw_heights = self.add_weight(tf.zeros((*shape, bins), dtype), "raw_heights")
        self.raw_slopes = self.add_weight(tf.zeros((*shape, bins - 1), dtype), "raw_slopes")

    def _forward_and_log_det(self, z, training=False):
        return spline_inverse(self._spline(), z, self.event_shape.rank)

    def _inverse_and_log_det(self, x, training=False):
        return spline_forward(self._spline(), x, self.event_shape.rank)

    def _spline(self):
        return constrained_spline(self.raw_widths, self.raw_heights, self.raw_slopes, self.bound)


def check_spline(owner: str, bins: int, bound: float):
    """Raises ValueError if there are fewer than two bins, or if the bound is not positive."""
    check_count(bins, f"{owner}: `bins`", least=2)
    if not bound > 0:
        raise ValueError(f"{owner}: `bound` is {bound}; wanted a positive number.")


def constrained_spline(raw_widths, raw_heights, raw_slopes, bound: float) -> tfb.RationalQuadraticSpline:
    """Builds a TFP spline from raw parameters, which may be any real numbers; raw parameters of zero are the identity.

    The widths and heights of the bins are a softmax that divides the interval [-bound, bound], and the slopes are a
    softplus. All are bounded away from zero, so that the spline can be inverted.

    Args:
      raw_widths: The raw widths of the bins, along the input, `(..., bins)`.
      raw_heights: The raw heights of the bins, along the output, `(..., bins)`.
      raw_slopes: The raw slopes of the inner knots, `(..., bins - 1)`; the outer knots have slope 1.
      bound: The end of the interval.
    """

    return tfb.RationalQuadraticSpline(
        bin_widths=bin_sizes(raw_widths, 2 * bound),
        bin_heights=bin_sizes(raw_heights, 2 * bound),
        knot_slopes=knot_slopes(raw_slopes),
        range_min=-bound,
    )


def bin_sizes(raw, length: float) -> tf.Tensor:
    """Divides an interval of this length into bins, `(..., bins)`, by a softmax; raw zeros make them equal."""
    return length * (_LEAST / raw.shape[-1] + (1 - _LEAST) * tf.nn.softmax(raw))


def knot_slopes(raw) -> tf.Tensor:
    """Makes raw numbers positive by a softplus; raw zeros are the slope 1."""
    one = np.log(np.e - 1)  # where softplus is 1
    return _LEAST + (1 - _LEAST) * tf.math.softplus(raw + tf.cast(one, raw.dtype))


def spline_forward(spline: tfb.RationalQuadraticSpline, x, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As `one_pass.forward_and_log_det`, and keeps axes of size 1, which are unknown after TFP's splines in graphs."""
    y, log_det = one_pass.forward_and_log_det(spline, x, event_ndims)
    return tf.ensure_shape(y, x.shape), log_det


def spline_inverse(spline: tfb.RationalQuadraticSpline, y, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As `one_pass.inverse_and_log_det`, and keeps axes of size 1; see `spline_forward`."""
    x, log_det = one_pass.inverse_and_log_det(spline, y, event_ndims)
    return tf.ensure_shape(x, y.shape), log_det
