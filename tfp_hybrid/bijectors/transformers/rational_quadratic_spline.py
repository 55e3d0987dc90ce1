"""The rational-quadratic spline transformer."""

import dataclasses

import tensorflow as tf

from tfp_hybrid.bijectors.base import sum_rightmost
from tfp_hybrid.bijectors.spline import check_spline, constrained_spline
from tfp_hybrid.bijectors.transformers.base import Transformer


@dataclasses.dataclass(frozen=True)
class RationalQuadraticSpline(Transformer):
    """A monotone rational-quadratic spline on [-bound, bound], the identity outside; see `bijectors.Spline`.

    The raw parameters are, entry after entry, those of the bins' widths, of their heights and of the inner slopes.
    """

    bins: int = 8
    bound: float = 4.0

    def __post_init__(self):
        check_spline(type(self).__name__, self.bins, self.bound)

    @property
    def num_parameters(self):
        return 3 * self.bins - 1

    def forward(self, z, raw, event_ndims):
        spline, z = self._spline(raw), tf.identity(z)  # past TFP's cache
        return spline.inverse(z), sum_rightmost(spline.inverse_log_det_jacobian(z), event_ndims)

    def inverse(self, x, raw, event_ndims):
        spline, x = self._spline(raw), tf.identity(x)
        return spline.forward(x), sum_rightmost(spline.forward_log_det_jacobian(x), event_ndims)

    def _spline(self, raw):
        entries = [raw.shape[-1] // self.num_parameters, self.num_parameters]
        raw = tf.reshape(raw, tf.concat([tf.shape(raw)[:-1], entries], 0))
        return constrained_spline(*tf.split(raw, [self.bins, self.bins, self.bins - 1], -1), self.bound)
