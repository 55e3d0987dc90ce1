"""A head for classification into K classes."""

import numbers

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.posterior import Posterior

tfd = tfp.distributions
_MOST_FOR_PAIRS = 100


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Categorical(Head):
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

    integer_labels = True
    classifies = True
    can_widen = True

    def __init__(self, num_classes: int, weight_stddev: float = 0.0, one_hot: bool = False, **kwargs):
        if not isinstance(num_classes, numbers.Integral) or num_classes < 2:
            raise ValueError(f"Categorical: `num_classes` is {num_classes!r}; wanted a whole number, at least 2.")
        if not 0 <= weight_stddev < float("inf"):
            raise ValueError(f"Categorical: `weight_stddev` is {weight_stddev}; wanted a finite number >= 0.")
        self.refuse(kwargs, "event_shape", "the response is one class")
        super().__init__((), predictors=num_classes, **kwargs)
        self.num_classes = num_classes
        self.weight_stddev, self.one_hot = float(weight_stddev), bool(one_hot)

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
            eta, weights = posterior.nodes(z)
            probs = tf.einsum("...su,s->...u", tf.nn.softmax(eta), tf.constant(weights, eta.dtype))
            return tfd.Categorical(logits=tf.math.log(probs))
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

    def mean(self, distribution: tfd.Categorical) -> tf.Tensor:
        return distribution.probs_parameter()

    def metric(self) -> keras.metrics.Metric:
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def prepare_labels(self, y) -> tf.Tensor:
        y = tf.convert_to_tensor(y)
        return super().prepare_labels(tf.argmax(y, -1) if self.one_hot and y.shape.rank == 2 else y)

    def check_labels(self, y: np.ndarray):
        if self.one_hot:
            super().check_labels(y)
            if y.ndim != 2 or y.shape[1] != self.num_classes or not np.isin(y, (0, 1)).all() or (y.sum(1) != 1).any():
                raise ValueError(
                    f"y has shape {y.shape}, or a row that is not one-hot; wanted one-hot rows of shape "
                    f"('n', {self.num_classes}), since the head has one_hot=True."
                )
            return
        if y.ndim == 2 and y.shape[1] == self.num_classes:
            raise ValueError(
                f"y has shape {y.shape}, as one-hot labels have; wanted integer labels of shape (n,), such as "
                "np.argmax(y, axis=-1)."
            )
        super().check_labels(y)
        if not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"y has dtype {y.dtype}; wanted integer labels 0 .. {self.num_classes - 1}.")
        if y.size and (y.min() < 0 or y.max() >= self.num_classes):
            raise ValueError(
                f"y has labels from {y.min()} to {y.max()}; wanted 0 .. {self.num_classes - 1} for "
                f"`num_classes` = {self.num_classes}."
            )

    def get_config(self) -> dict:
        config = super().get_config() | {"num_classes": self.num_classes, "weight_stddev": self.weight_stddev}
        config["one_hot"] = self.one_hot
        del config["event_shape"]
        return config
