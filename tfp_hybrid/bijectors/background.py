"""`Background`: a bijector that maps the empty background of images to a truncated normal."""

import math

import tensorflow as tf

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

    Args:
      event_shape: `(H, W, C)`.
      name: The prefix of the names of the ops.
    """

    def __init__(self, event_shape: tuple[int, ...], name: str = "background"):
        super().__init__(event_shape, parameters=dict(locals()), name=name)

    def _inverse_and_log_det(self, x, training=False):
        empty = (x >= 0) & (x < 1)
        normal = tf.math.ndtri(_BELOW + (1 - 2 * _BELOW) * tf.where(empty, x, tf.constant(0.5, x.dtype)))
        linear = tf.where(x < 0, _SLOPE * x - _EDGE, _SLOPE * (x - 1) + _EDGE)
        return tf.where(empty, normal, linear), self._sum(tf.where(empty, _log_slope(normal), _linear_log_slope(x)))

    def _forward_and_log_det(self, z, training=False):
        empty = (z >= -_EDGE) & (z < _EDGE)
        normal = tf.where(empty, z, tf.constant(0.0, z.dtype))
        share = (0.5 * tf.math.erfc(-normal / math.sqrt(2)) - _BELOW) / (1 - 2 * _BELOW)
        linear = tf.where(z < 0, (z + _EDGE) / _SLOPE, (z - _EDGE) / _SLOPE + 1)
        return tf.where(empty, share, linear), -self._sum(tf.where(empty, _log_slope(normal), _linear_log_slope(z)))

    def _sum(self, log_slopes):
        return tf.reduce_sum(log_slopes, axis=list(range(-self._event_shape.rank, 0)))


def _log_slope(normal):
    """Returns log dz/dv on the background."""
    return 0.5 * tf.square(normal) + tf.constant(math.log(1 - 2 * _BELOW) + 0.5 * math.log(2 * math.pi), normal.dtype)


def _linear_log_slope(like):
    return tf.constant(math.log(_SLOPE), like.dtype)
