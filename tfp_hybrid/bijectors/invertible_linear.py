"""An invertible linear map of the channels: Glow's 1x1 convolution."""

import keras
import tensorflow as tf

from tfp_hybrid.bijectors import base


class InvertibleLinear(base.FusedBijector):
    """`z = x W` on the last axis; for images the invertible 1x1 convolution. W is LU-parametrized:

        W = P L (U + diag(s)),   s = sign * exp(log_diagonal)
        log|det dz/dx| = S sum_c log_diagonal_c

    with P a fixed permutation, L unit lower and U strictly upper triangular, and S the number of positions
    (H * W for images, 1 for vectors). W starts as a random rotation. The density direction, `inverse`, is a
    matrix product; `forward` solves the two triangular systems. (XLA has no log-determinant of a matrix.)

    Args:
      event_shape: `(C,)` or `(H, W, C)`.
      dtype: of the weights.
      name: prefix of the names of the ops.

    References:
      Kingma and Dhariwal 2018, "Glow", section 3.2.
    """

    def __init__(self, event_shape, dtype="float32", name="invertible_linear"):
        parameters = dict(locals())
        super().__init__(event_shape, parameters=parameters, name=name)
        channels = self._event_shape[-1]
        self._positions = self._event_shape.num_elements() // channels
        rotation = tf.cast(keras.initializers.Orthogonal()((channels, channels)), tf.float64)
        lu, rows = tf.linalg.lu(rotation)
        diagonal = tf.linalg.diag_part(lu)
        # In P L U, row i of L U is row rows[i] of W; `permutation` says where row i of W comes from.
        self.permutation = tf.Variable(tf.math.invert_permutation(rows), trainable=False, name=f"{name}/permutation")
        self.sign = tf.Variable(tf.cast(tf.sign(diagonal), dtype), trainable=False, name=f"{name}/sign")
        self.log_diagonal = tf.Variable(tf.cast(tf.math.log(tf.abs(diagonal)), dtype), name=f"{name}/log_diagonal")
        self._below = tf.linalg.band_part(tf.ones((channels, channels), dtype), -1, 0) - tf.eye(channels, dtype=dtype)
        self.lower = tf.Variable(tf.cast(lu, dtype) * self._below, name=f"{name}/lower")
        self.upper = tf.Variable(tf.cast(lu, dtype) * tf.transpose(self._below), name=f"{name}/upper")

    def _factors(self):
        lower = self.lower * self._below + tf.eye(self._event_shape[-1], dtype=self.lower.dtype)
        upper = self.upper * tf.transpose(self._below)
        return lower, upper + tf.linalg.diag(self.sign * tf.exp(self.log_diagonal))

    def matrix(self) -> tf.Tensor:
        """W, of shape `(C, C)`."""
        lower, upper = self._factors()
        return tf.gather(lower @ upper, self.permutation)

    def _forward_and_log_det(self, z, training=False):
        lower, upper = self._factors()
        identity = tf.eye(self._event_shape[-1], dtype=lower.dtype)
        inverse = tf.linalg.triangular_solve(upper, tf.linalg.triangular_solve(lower, identity), lower=False)
        return _matmul(z, tf.gather(inverse, self.permutation, axis=1)), -self._log_det(z)

    def _inverse_and_log_det(self, x, training=False):
        return _matmul(x, self.matrix()), self._log_det(x)

    def _log_det(self, value):
        return self._same_log_det(self._positions * tf.reduce_sum(self.log_diagonal), value)


def _matmul(x, matrix):
    return tf.tensordot(x, matrix, axes=1)
