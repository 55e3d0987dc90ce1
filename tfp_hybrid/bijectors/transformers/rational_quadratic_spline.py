"""`RationalQuadraticSpline`, the transformer of spline couplings."""

import dataclasses

import tensorflow as tf

from tfp_hybrid.bijectors.spline import check_spline, constrained_spline, spline_forward, spline_inverse
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
        return spline_inverse(self._spline(raw), z, event_ndims)

    def inverse(self, x, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        return spline_forward(self._spline(raw), x, event_ndims)

    def _spline(self, raw):
        entries = [raw.shape[-1] // self.num_parameters, self.num_parameters]
        raw = tf.reshape(raw, tf.concat([tf.shape(raw)[:-1], entries], 0))
        return constrained_spline(*tf.split(raw, [self.bins, self.bins, self.bins - 1], -1), self.bound)
