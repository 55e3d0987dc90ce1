"""`RationalQuadraticSpline`, the transformer of spline couplings."""

import dataclasses

import tensorflow as tf

from tfp_hybrid.bijectors.base import sum_rightmost
from tfp_hybrid.bijectors.rational_quadratic import inverse_spline, spline
from tfp_hybrid.bijectors.spline import check_spline
from tfp_hybrid.bijectors.transformers.base import Transformer


@dataclasses.dataclass(frozen=True)
class RationalQuadraticSpline(Transformer):
    """A monotone rational-quadratic spline on [-bound, bound], and the identity outside; see `bijectors.Spline`.

    The raw parameters of each entry are those of the widths of the bins, of their heights, and of the inner slopes; the
    parameters of the next entry follow.

    Args:
      bins: The number of pieces.
      bound: The end of the interval.

    Raises:
      ValueError: If there are fewer than two bins, or if the bound is not positive.
    """

    bins: int = 8
    bound: float = 4.0

    def __post_init__(self):
        check_spline(type(self).__name__, self.bins, self.bound)

    @property
    def num_parameters(self) -> int:
        """The number of raw parameters for each transformed entry."""
        return 3 * self.bins - 1

    def forward(self, z, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        x, log_slopes = inverse_spline(z, self._by_entry(raw), self.bound)
        return x, sum_rightmost(log_slopes, event_ndims)

    def inverse(self, x, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        z, log_slopes = spline(x, self._by_entry(raw), self.bound)
        return z, sum_rightmost(log_slopes, event_ndims)

    def _by_entry(self, raw):
        entries = [raw.shape[-1] // self.num_parameters, self.num_parameters]
        return tf.reshape(raw, tf.concat([tf.shape(raw)[:-1], entries], 0))
