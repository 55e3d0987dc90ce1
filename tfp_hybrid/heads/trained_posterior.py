"""`TrainedPosterior`: the posterior of a `Variational` head, whose weights are trained."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.posterior import DRAWS, Posterior, root


class TrainedPosterior(Posterior):
    """q(B) = Normal(M, C) of trained weights; C is positive definite for all of their values.

    Args:
      coefficients: A function that returns M, `(d + 1, u)`.
      structure: "full" or "kronecker".
      train_size: N; the variances in D are in units of 1/N.
      prior: The precision of the prior on the kernel, or "evidence".
      bias_prior: The precision of the prior on the bias.
      **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(
        self,
        coefficients: Callable[[], tf.Tensor],
        structure: str,
        train_size: float,
        prior: float | str,
        bias_prior: float,
        **kwargs,
    ):
        facts = {"kernel_prior": np.nan if prior == "evidence" else prior, "bias_prior": bias_prior}
        super().__init__(*coefficients().shape, structure, rows=train_size, trainable=True, **facts, **kwargs)
        self.coefficients, self.train_size, self.of_kernel, self.of_bias = coefficients, train_size, prior, bias_prior
        self.log_stddev.regularizer = lambda _: self.divergence() / train_size

    def shapes(self):
        sizes = {"log_stddev": (self.features, self.units)}
        if self.structure == "full":
            return sizes | {"below": _below(self.features * self.units)}
        sizes |= {"left_below": _below(self.features)}
        return sizes | ({"right_below": _below(self.units)} if 1 < self.units < DRAWS else {})

    @property
    def mean(self) -> tf.Tensor:
        """M, `(d + 1, u)`."""
        return self.coefficients()

    @property
    def variances(self) -> tf.Tensor:
        """D, `(d + 1, u)`."""
        return tf.exp(2 * self.log_stddev) / self.train_size

    @property
    def left(self) -> tf.Tensor:
        """L_1, `(d + 1, d + 1)`."""
        return _unit_lower(self.left_below, self.features)

    @property
    def right(self) -> tf.Tensor:
        """L_2, `(u, u)`."""
        has_weight = 1 < self.units < DRAWS
        return _unit_lower(self.right_below, self.units) if has_weight else tf.eye(self.units, dtype=self.dtype)

    @property
    def factor(self) -> tf.Tensor:
        """L D^(1/2), a root of the covariance of all coefficients; of a "full" structure."""
        stddev = tf.sqrt(tf.reshape(self.variances, [-1]))
        return _unit_lower(self.below, stddev.shape[0]) * stddev

    @property
    def covariance(self) -> tf.Tensor:
        """C, of a "full" structure."""
        return tf.matmul(self.factor, self.factor, transpose_b=True)

    @property
    def kernel_prior(self) -> float:
        return float(self.precisions()[0, 0])

    def second_moments(self) -> tf.Tensor:
        """E_q[B^2] of each coefficient, `(d + 1, u)`."""
        if self.structure == "full":
            variances = tf.reshape(tf.reduce_sum(self.factor**2, 1), self.log_stddev.shape)
        else:
            variances = tf.matmul(self.left**2, tf.matmul(self.variances, self.right**2, transpose_b=True))
        return self.mean**2 + variances

    def precisions(self) -> tf.Tensor:
        """The precision of the prior of each row of B, `(d + 1, 1)`."""
        if self.of_kernel == "evidence":
            of_kernel = 1 / tf.reduce_mean(self.second_moments()[:-1])
        else:
            of_kernel = tf.constant(self.of_kernel, self.dtype)
        return tf.concat([tf.fill((self.features - 1, 1), of_kernel), tf.constant([[self.of_bias]], self.dtype)], 0)

    def divergence(self) -> tf.Tensor:
        """KL(q || prior) in nats."""
        precisions = self.precisions()
        of_prior = precisions * self.second_moments() - tf.math.log(precisions)
        # det L = 1, so that C has the determinant of D.
        return tf.reduce_sum(0.5 * (of_prior - 1 + math.log(self.train_size)) - self.log_stddev)

    def predictor_factor(self, z):
        if self.structure != "full":
            return super().predictor_factor(z)
        factor = tf.reshape(self.factor, (self.features, self.units, -1))
        half = tf.tensordot(self.phi(z), factor, axes=1)  # (..., u, (d + 1) u)
        return root(tf.matmul(half, half, transpose_b=True))


def _below(size):
    """The shape of the entries below the diagonal of a square matrix."""
    return (size * (size - 1) // 2,)


def _unit_lower(entries, size):
    """The matrix with ones on its diagonal and these entries below it."""
    below = tfp.math.fill_triangular(tf.convert_to_tensor(entries))
    return tf.pad(below, [[1, 0], [0, 1]]) + tf.eye(size, dtype=below.dtype)
