"""Rational-quadratic splines with trained knots: a flexible monotone map of each feature."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors import base

tfb = tfp.bijectors

_LEAST = 1e-2  # of a bin's width and height, as a part of their mean, and of a knot's slope


class Spline(base.FusedBijector):
    """A monotone rational-quadratic spline for each feature, the identity outside of [-bound, bound].

        inverse:  z_i = g_i(x_i)        log|det dz/dx| = sum_i log g_i'(x_i)

    g_i passes through `bins` + 1 knots, whose positions and slopes are trained; it starts as the identity. It is
    `tfb.RationalQuadraticSpline`, with parameters that cannot leave their range.

    Args:
      event_shape: `(d,)`, or any other.
      bins: number of pieces.
      bound: end of the interval, in the unit of x; standardize x first (`ActNorm`).
      dtype: of the weights.
      name: prefix of the names of the ops.

    Raises:
      ValueError: for fewer than two bins, or a bound that is not positive.

    References:
      Durkan, Bekasov, Murray and Papamakarios 2019, "Neural Spline Flows".
    """

    def __init__(self, event_shape, bins=16, bound=4.0, dtype="float32", name="spline"):
        parameters = dict(locals())
        if bins < 2 or bins != int(bins):
            raise ValueError(f"Spline: `bins` is {bins}; wanted a whole number, at least 2.")
        if not bound > 0:
            raise ValueError(f"Spline: `bound` is {bound}; wanted a positive number.")
        super().__init__(event_shape, parameters=parameters, name=name)
        self._bins, self._bound = bins, bound
        shape = tuple(self._event_shape)
        self.raw_widths = self._add_weight(tf.zeros((*shape, bins), dtype), "raw_widths")
        self.raw_heights = self._add_weight(tf.zeros((*shape, bins), dtype), "raw_heights")
        self.raw_slopes = self._add_weight(tf.zeros((*shape, bins - 1), dtype), "raw_slopes")

    def _forward_and_log_det(self, z, training=False):
        spline = self._spline()
        z = tf.identity(z)  # past TFP's cache
        return spline.inverse(z), spline.inverse_log_det_jacobian(z, self._event_shape.rank)

    def _inverse_and_log_det(self, x, training=False):
        spline = self._spline()
        x = tf.identity(x)
        return spline.forward(x), spline.forward_log_det_jacobian(x, self._event_shape.rank)

    def _spline(self):
        """g, as TFP's bijector."""

        def shares(raw):
            return 2 * self._bound * (_LEAST / self._bins + (1 - _LEAST) * tf.nn.softmax(raw))

        one = np.log(np.e - 1)  # where softplus is 1
        return tfb.RationalQuadraticSpline(
            bin_widths=shares(self.raw_widths),
            bin_heights=shares(self.raw_heights),
            knot_slopes=_LEAST + (1 - _LEAST) * tf.math.softplus(self.raw_slopes + tf.cast(one, self.raw_slopes.dtype)),
            range_min=-self._bound,
        )
