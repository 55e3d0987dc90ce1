"""A head for classification into K classes."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.classes import Classes
from tfp_hybrid.heads.posterior import Posterior

tfd = tfp.distributions
_MOST_FOR_PAIRS = 100


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Categorical(Classes):
    """Softmax regression on z.

        p(y = k | z) = softmax_k(beta^T z + b)

    Labels are integers 0 .. num_classes-1; the predictive mean is the vector of class probabilities, `(n, K)`.

    With `weight_stddev` = s > 0 the weights are uncertain, beta ~ Normal(M, s^2 I), and p(y|z) is the average over
    them, by MacKay's approximation: each logit has variance s^2 ||z||^2 and is multiplied by

        kappa = 1 / sqrt(1 + pi/8 s^2 ||z||^2)

    For two classes kappa is too close to 1, since the difference of their logits has twice the variance. The bias is
    treated as certain. Far from the origin, the logits depend only on the direction of z, so inputs with an unusually
    large z, as out-of-distribution inputs have, no longer get the most confident predictions.

    Args:
      num_classes: The number of classes K, at least 2.
      weight_stddev: The standard deviation s >= 0 of beta. A typical z of D standard normal entries has ||z||^2 = D.
      one_hot: Whether labels are one-hot rows, `(n, K)`, as `keras.wrappers.SKLearnClassifier` passes them.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    Raises:
      ValueError: If `num_classes` < 2, if `weight_stddev` is negative or infinite, or if `event_shape` is given.

    References:
      MacKay 1992, "The Evidence Framework Applied to Classification Networks", eq. 11 (two classes).
      Gibbs 1997, "Bayesian Gaussian Processes for Regression and Classification" (several classes).
      Kristiadi, Hein and Hennig 2020, "Being Bayesian, Even Just a Bit, Fixes Overconfidence in ReLU Networks".
    """

    can_widen = True
    location_predictor = None  # all logits may rise together

    def __init__(self, num_classes: int, weight_stddev: float = 0.0, one_hot: bool = False, **kwargs):
        if not 0 <= weight_stddev < float("inf"):
            raise ValueError(f"Categorical: `weight_stddev` is {weight_stddev}; wanted a finite number >= 0.")
        super().__init__(num_classes, num_classes, one_hot, **kwargs)
        self.weight_stddev = float(weight_stddev)

    def linear_predictor(self, z) -> tf.Tensor:
        eta = super().linear_predictor(z)
        if not self.weight_stddev:
            return eta
        z = tf.cast(z, self.variable_dtype)
        variance = self.weight_stddev**2 * tf.reduce_sum(tf.square(z), -1, keepdims=True)
        return eta * tf.math.rsqrt(1 + np.pi / 8 * variance)

    def distribution(self, eta) -> tfd.Categorical:
        return tfd.Categorical(logits=eta)

    def integrated(self, z, posterior: Posterior) -> tfd.Categorical:
        """The average over the posterior, by MacKay's approximation for each pair of classes.

            p(k) ~ 1 / sum_j exp(-(eta_k - eta_j) kappa_kj),   kappa_kj = 1 / sqrt(1 + pi/8 Var[eta_k - eta_j])

        Many classes have too many pairs: it is then the average over the posterior's nodes.
        """
        if self.num_classes > _MOST_FOR_PAIRS:
            return super().integrated(z, posterior)
        eta, factor = posterior.linear_predictor(z), posterior.predictor_factor(z)
        covariance = tf.matmul(factor, factor, transpose_b=True)
        variance = tf.linalg.diag_part(covariance)
        of_pairs = tf.maximum(variance[..., :, tf.newaxis] + variance[..., tf.newaxis, :] - 2 * covariance, 0)
        ahead = (eta[..., :, tf.newaxis] - eta[..., tf.newaxis, :]) * tf.math.rsqrt(1 + np.pi / 8 * of_pairs)
        return tfd.Categorical(logits=tf.nn.log_softmax(-tf.reduce_logsumexp(-ahead, -1)))

    def information(self, eta, y) -> tf.Tensor:
        probs = tf.nn.softmax(eta)
        return tf.linalg.diag(probs) - probs[..., :, tf.newaxis] * probs[..., tf.newaxis, :]

    def total_information(self, eta, y, weights) -> tf.Tensor:
        probs = tf.nn.softmax(eta)
        weighted = weights[:, tf.newaxis] * probs
        return tf.linalg.diag(tf.reduce_sum(weighted, 0)) - tf.matmul(weighted, probs, transpose_a=True)

    def get_config(self) -> dict:
        return super().get_config() | {"weight_stddev": self.weight_stddev}
