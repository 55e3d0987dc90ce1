"""`Background`: a bijector that maps the levels of most pixels, the empty and the saturated, to truncated normals."""

import math

import tensorflow as tf

from tfp_hybrid.arguments import check_count
from tfp_hybrid.bijectors.base import FusedBijector

_EDGE = 2.5  # T
_BELOW = 0.5 * math.erfc(_EDGE / math.sqrt(2))  # a
_SLOPE = 0.04  # r


class Background(FusedBijector):
    """Maps level 0 of dequantized images, the level of most of their pixels, to a truncated standard normal.

    For each pixel v, with T = 2.5, a = Phi(-T) and r = 0.04:

        inverse:  z = Phi^-1(a + (1 - 2a) v)    for 0 <= v < 1,  dz/dv = (1 - 2a) / phi(z)
                  z = T + r (v - 1)             for v >= 1,      dz/dv = r
                  z = r v - T                   for v < 0,       dz/dv = r

    The dequantized background is uniform on [0, 1). It becomes a normal truncated at -T and T, which fits p(z), and the
    other 255 levels cover the next ten standard deviations. On a linear scale the background covers 1/256 of the range,
    which a flow would have to learn to stretch, pixel by pixel.

    The highest levels s .. L-1, which saturated pixels have, can be mapped in the same way, to a normal about
    c = 2T + r (s - 1):

                  z = c + Phi^-1(a + (1 - 2a) (v - s) / (L - s))    for s <= v < L
                  z = c + T + r (v - L)                             for v >= L

    Args:
      event_shape: `(H, W, C)`.
      name: The prefix of the names of the ops.
      saturated: The lowest level s of a saturated pixel; None if no levels are mapped so.
      quantization_levels: The number L of integer values, which ends the saturated ones.

    Raises:
      ValueError: If `saturated` is not a whole number between 1 and L - 1.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        name: str = "background",
        saturated: int | None = None,
        quantization_levels: int = 256,
    ):
        parameters = dict(locals())
        check_count(quantization_levels, "Background: `quantization_levels`", least=2)
        if saturated is not None:
            check_count(saturated, "Background: `saturated`")
            if saturated >= quantization_levels:
                raise ValueError(f"Background: `saturated` is {saturated}; wanted 1 .. {quantization_levels - 1}.")
        super().__init__(event_shape, parameters=parameters, name=name)
        intervals = [(0, 1)] if saturated is None else [(0, 1), (saturated, quantization_levels)]
        self._normals = []  # the ends of each interval of levels, and where on the scale of z its normal is
        for low, high in intervals:
            centre = self._normals[-1][2] + 2 * _EDGE + _SLOPE * (low - self._normals[-1][1]) if self._normals else 0.0
            self._normals.append((low, high, centre))

    def _inverse_and_log_det(self, x, training=False):
        z, log_slope = _SLOPE * x - _EDGE, _constant(math.log(_SLOPE), x)
        for low, high, centre in self._normals:
            inside = (x >= low) & (x < high)
            share = tf.where(inside, (x - low) / (high - low), _constant(0.5, x))
            normal = tf.math.ndtri(_BELOW + (1 - 2 * _BELOW) * share)
            z = tf.where(inside, centre + normal, tf.where(x < high, z, centre + _EDGE + _SLOPE * (x - high)))
            log_slope = tf.where(inside, _log_slope(normal, high - low), log_slope)
        return z, self._sum(log_slope)

    def _forward_and_log_det(self, z, training=False):
        x, log_slope = (z + _EDGE) / _SLOPE, _constant(math.log(_SLOPE), z)
        for low, high, centre in self._normals:
            inside = (z >= centre - _EDGE) & (z < centre + _EDGE)
            normal = tf.where(inside, z - centre, _constant(0.0, z))
            share = (0.5 * tf.math.erfc(-normal / math.sqrt(2)) - _BELOW) / (1 - 2 * _BELOW)
            above = high + (z - centre - _EDGE) / _SLOPE
            x = tf.where(inside, low + (high - low) * share, tf.where(z < centre, x, above))
            log_slope = tf.where(inside, _log_slope(normal, high - low), log_slope)
        return x, -self._sum(log_slope)

    def _sum(self, log_slopes):
        return tf.reduce_sum(log_slopes, axis=list(range(-self._event_shape.rank, 0)))


def _log_slope(normal, levels):
    """Returns log dz/dv where so many levels become this truncated normal."""
    constant = math.log(1 - 2 * _BELOW) + 0.5 * math.log(2 * math.pi) - math.log(levels)
    return 0.5 * tf.square(normal) + _constant(constant, normal)


def _constant(value, like):
    return tf.fill(tf.shape(like), tf.constant(value, like.dtype))
