"""`Spline`, a rational-quadratic spline with trained knots: a flexible monotone map of each feature."""

import tensorflow as tf

from tfp_hybrid.arguments import check_count
from tfp_hybrid.bijectors.base import FusedBijector, sum_rightmost
from tfp_hybrid.bijectors.rational_quadratic import inverse_spline, spline


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
        x, log_slopes = inverse_spline(z, self._raw(), self.bound)
        return x, sum_rightmost(log_slopes, self.event_shape.rank)

    def _inverse_and_log_det(self, x, training=False):
        z, log_slopes = spline(x, self._raw(), self.bound)
        return z, sum_rightmost(log_slopes, self.event_shape.rank)

    def _raw(self):
        return tf.concat([self.raw_widths, self.raw_heights, self.raw_slopes], -1)


def check_spline(owner: str, bins: int, bound: float):
    """Raises ValueError if there are fewer than two bins, or if the bound is not positive."""
    check_count(bins, f"{owner}: `bins`", least=2)
    if not bound > 0:
        raise ValueError(f"{owner}: `bound` is {bound}; wanted a positive number.")
