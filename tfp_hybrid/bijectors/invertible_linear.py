"""`InvertibleLinear`, an invertible linear map of the channels: Glow's 1x1 convolution."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.bijectors.channel_affine import ChannelAffine


class InvertibleLinear(ChannelAffine):
    """`z = x W` on the last axis, which is an invertible 1x1 convolution for images.

    W is parametrized by its LU factors:

        W = P L (U + diag(s)),   s = sign * exp(log_diagonal)
        log|det dz/dx| = S sum_c log_diagonal_c

    with P a fixed permutation, L unit lower and U strictly upper triangular, and S the number of positions (H * W for
    images, 1 for vectors). W starts as a random rotation. The density direction, `inverse`, is a matrix product;
    `forward` solves the two triangular systems. (XLA cannot compute the log-determinant of a general matrix.)

    Args:
      event_shape: `(C,)` or `(H, W, C)`.
      dtype: The dtype of the weights.
      name: The prefix of the names of the ops.

    References:
      Kingma and Dhariwal 2018, "Glow", section 3.2.
    """

    def __init__(self, event_shape: tuple[int, ...], dtype: str = "float32", name: str = "invertible_linear"):
        parameters = dict(locals())
        super().__init__(event_shape, parameters=parameters, name=name)
        channels = self.channels
        rotation = tf.cast(keras.initializers.Orthogonal()((channels, channels)), tf.float64)
        lu, rows = tf.linalg.lu(rotation)
        diagonal = tf.linalg.diag_part(lu)
        # Row i of L U is row rows[i] of W; `permutation` is the inverse, the row of L U that is row i of W.
        self.permutation = self.add_weight(tf.math.invert_permutation(rows), "permutation", trainable=False)
        self.sign = self.add_weight(tf.cast(tf.sign(diagonal), dtype), "sign", trainable=False)
        self.log_diagonal = self.add_weight(tf.cast(tf.math.log(tf.abs(diagonal)), dtype), "log_diagonal")
        self._below = np.tri(channels, k=-1, dtype=dtype)
        self.lower = self.add_weight(tf.cast(lu, dtype) * self._below, "lower")
        self.upper = self.add_weight(tf.cast(lu, dtype) * self._below.T, "upper")

    def _factors(self):
        lower = self.lower * self._below + tf.eye(self.channels, dtype=self.lower.dtype)
        upper = self.upper * self._below.T
        return lower, upper + tf.linalg.diag(self.sign * tf.exp(self.log_diagonal))

    def matrix(self) -> tf.Tensor:
        """Returns W, `(C, C)`."""
        lower, upper = self._factors()
        return tf.gather(lower @ upper, self.permutation)

    def forward_map(self) -> tuple[tf.Tensor, tf.Tensor]:
        lower, upper = self._factors()
        identity = tf.eye(self.channels, dtype=lower.dtype)
        inverse = tf.linalg.triangular_solve(upper, tf.linalg.triangular_solve(lower, identity), lower=False)
        return tf.gather(inverse, self.permutation, axis=1), tf.zeros(self.channels, lower.dtype)

    def inverse_map(self) -> tuple[tf.Tensor, tf.Tensor]:
        matrix = self.matrix()
        return matrix, tf.zeros(self.channels, matrix.dtype)

    def channel_log_det(self) -> tf.Tensor:
        return tf.reduce_sum(self.log_diagonal)
