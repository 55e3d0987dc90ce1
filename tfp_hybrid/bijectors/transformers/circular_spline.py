"""`CircularSpline`, the transformer of couplings of angles."""

import dataclasses
import math

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.arguments import check_count
from tfp_hybrid.bijectors import one_pass
from tfp_hybrid.bijectors.rational_quadratic import LEAST, UNIT_SLOPE
from tfp_hybrid.bijectors.transformers.base import Transformer

tfb = tfp.bijectors


@dataclasses.dataclass(frozen=True)
class CircularSpline(Transformer):
    """A map of the circle onto itself: a rotation and a monotone rational-quadratic spline, for angles in radians.

        inverse:  z = g(x - phase),     angles counted modulo 2 pi

    g maps [-pi, pi) onto itself with the same slope at both ends, so that value and slope are continuous there; the
    phase says where that is. The results are in [-pi, pi), and a shift of an input by 2 pi changes nothing. The latent
    distribution is one of angles, too; `flow_distribution` takes the uniform one by default.

    The parameters of an angle must not jump where another angle passes from pi to -pi: give couplings the conditioner
    `networks.OfAngles`. `bijectors.CircularSplineFlow` does so.

    The raw parameters of each entry are those of the widths of the bins, of their heights, of the slopes where they
    begin, and the phase; the parameters of the next entry follow.

    Args:
      bins: The number of pieces.

    Raises:
      ValueError: If there are fewer than two bins.

    References:
      Rezende, Papamakarios, Racanière, Albergo, Kanwar, Shanahan and Cranmer 2020, "Normalizing Flows on Tori and
      Spheres", section 2.1.2.
    """

    bins: int = 8

    def __post_init__(self):
        check_count(self.bins, "CircularSpline: `bins`", least=2)

    @property
    def num_parameters(self) -> int:
        """The number of raw parameters for each transformed entry."""
        return 3 * self.bins + 1

    def forward(self, z, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        spline, x_first, z_first, phase = self._parts(raw)
        x, log_det = one_pass.inverse_and_log_det(spline, _wrapped(z) - z_first, event_ndims)
        return _wrapped(tf.ensure_shape(x, z.shape) + x_first + phase), log_det

    def inverse(self, x, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        spline, x_first, z_first, phase = self._parts(raw)
        z, log_det = one_pass.forward_and_log_det(spline, _wrapped(x - phase) - x_first, event_ndims)
        return _wrapped(tf.ensure_shape(z, x.shape) + z_first), log_det

    def _parts(self, raw):
        """The spline from x to z, what its first knot stands for in x and in z, and the phase.

        TFP's spline has the slope 1 at its ends. It goes on by a bin beyond both ends of the circle, which leaves the
        slope there free, and an angle that rounding moves beyond them inside. In graphs it loses axes of size 1.
        """
        entries = [raw.shape[-1] // self.num_parameters, self.num_parameters]
        raw = tf.reshape(raw, tf.concat([tf.shape(raw)[:-1], entries], 0))
        raw_widths, raw_heights, raw_slopes, phase = tf.split(raw, [self.bins, self.bins, self.bins, 1], -1)
        widths, heights = (_shares(one) for one in (raw_widths, raw_heights))
        slopes = LEAST + (1 - LEAST) * tf.math.softplus(raw_slopes + UNIT_SLOPE)
        spline = tfb.RationalQuadraticSpline(
            bin_widths=tf.concat([widths[..., -1:], widths, widths[..., :1]], -1),
            bin_heights=tf.concat([heights[..., -1:], heights, heights[..., :1]], -1),
            knot_slopes=tf.concat([slopes, slopes[..., :1]], -1),
            range_min=0.0,
        )
        return spline, -math.pi - widths[..., -1], -math.pi - heights[..., -1], phase[..., 0]


def _shares(raw):
    """Divides the circle into bins, `(..., bins)`."""
    return 2 * math.pi * (LEAST / raw.shape[-1] + (1 - LEAST) * tf.nn.softmax(raw))


def _wrapped(angle):
    """The same angle in [-pi, pi)."""
    return tf.math.floormod(angle + math.pi, 2 * math.pi) - math.pi
