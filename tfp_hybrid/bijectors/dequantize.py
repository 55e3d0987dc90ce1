"""`Dequantize`: uniform dequantization of integer data."""

import numpy as np
import tensorflow as tf

from tfp_hybrid import _compat
from tfp_hybrid.arguments import check_count
from tfp_hybrid.bijectors import noise
from tfp_hybrid.bijectors.base import FusedBijector


@_compat.ignoring("_draw")  # which is nothing to save
class Dequantize(noise.RowNoise, FusedBijector):
    """Maps integers 0 .. L-1 to reals in [0, L), by uniform noise in [0, 1) on each entry.

        inverse:  z = x + u          forward:  x = floor(z), clipped to 0 .. L-1
        log|det dz/dx| = 0           E_u[log p(x + u)] <= log P(x)

    so the mean log density of z is a lower bound on the log probability of the integer x, as for bits/dim in the
    literature. In training, each call draws a new u. Otherwise, u is a fixed pseudo-random function of x, so log p(x)
    of an image is repeatable and does not depend on its batch, and the mean over a data set is still a fair estimate of
    the bound; `DensityModel.log_prob(x, draws=k)` is the tighter, importance-weighted one. This is not strictly a
    bijection: `inverse(forward(z))` keeps only the integer part of z.

    Args:
      event_shape: The shape of one data point.
      quantization_levels: The number L of integer values, 256 for 8-bit images.
      dtype: The dtype of z.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If `quantization_levels` is not a whole number >= 2.

    References:
      Theis, van den Oord and Bethge 2016, "A note on the evaluation of generative models", section 3.1.
    """

    is_exact = False

    def __init__(
        self,
        event_shape: tuple[int, ...],
        quantization_levels: int = 256,
        dtype: str = "float32",
        name: str = "dequantize",
    ):
        parameters = dict(locals())
        check_count(quantization_levels, "Dequantize: `quantization_levels`", least=2)
        super().__init__(event_shape, parameters=parameters, name=name)
        self.quantization_levels = quantization_levels
        self._float = tf.as_dtype(dtype)
        self._random_state, self._draw = noise.random_state(name), noise.draw_number(name)
        self._hash_weights, self._hash_offsets = noise.hash_constants(self.event_shape.num_elements())

    def _inverse_dtype(self, dtype, **kwargs):
        return self._float

    def _forward_dtype(self, dtype, **kwargs):
        return self._float

    def _forward_and_log_det(self, z, training=False):
        x = tf.clip_by_value(tf.floor(z), 0, self.quantization_levels - 1)
        return x, self.same_log_det(tf.zeros((), z.dtype), z)

    def _inverse_and_log_det(self, x, training=False):
        return self._in_cell(x, self._uniform(x, training)), self.same_log_det(tf.zeros((), self._float), x)

    def _in_cell(self, x, u):
        """x + u; larger noise would be rounded up to the next integer."""
        u = tf.minimum(u, tf.constant(1 - self.quantization_levels * np.finfo(self._float.name).eps, self._float))
        return tf.cast(x, self._float) + u

    def _uniform(self, x, training):
        """Uniform noise in [0, 1) of the shape of x."""
        if training:
            return noise.fresh_uniform(self._random_state, tf.shape(x), self._float)
        rows = tf.reshape(tf.cast(x, tf.int64), [-1, self.event_shape.num_elements()]) + self._draw
        u = noise.row_uniform(rows, self._hash_weights, self._hash_offsets, self._float)
        return tf.reshape(u, tf.shape(x))
