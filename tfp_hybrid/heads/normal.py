"""Gaussian heads for regression."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.posterior import NormalInverseGamma, Posterior
from tfp_hybrid.moments import location_and_scale

tfd = tfp.distributions


class StandardizedResponse(Head):
    """A head that predicts `(y - m) / s` and returns the distribution of y itself.

    m and s, the mean and standard deviation of the responses, are untrained weights. They are 0 and 1 until `adapt`,
    which `HybridModel.fit` calls unless the head is already adapted. So the optimizer sees responses of unit variance,
    whatever their unit, and log p(y|x) is that of y as given. One more untrained weight is the factor of the standard
    deviation, which `widen` sets.
    """

    can_widen = True

    def build(self, latent_shape):
        super().build(latent_shape)
        self.response_mean = self.add_weight(
            shape=self.event_shape, initializer="zeros", trainable=False, name="response_mean"
        )
        self.response_stddev = self.add_weight(
            shape=self.event_shape, initializer="ones", trainable=False, name="response_stddev"
        )
        self.widening = self.add_weight(shape=(), initializer="ones", trainable=False, name="widening")

    def adapt(self, y: np.ndarray):
        """Sets m and s to the mean and standard deviation of the responses y."""
        mean, stddev = location_and_scale(self.prepare_labels(y))
        self.response_mean.assign(tf.cast(mean, self.variable_dtype))
        self.response_stddev.assign(tf.cast(stddev, self.variable_dtype))

    def is_adapted(self) -> bool:
        mean, stddev = self.response_mean.numpy(), self.response_stddev.numpy()
        return bool((mean != 0).any() or (stddev != 1).any())

    def widen(self, factor: float):
        """Multiplies the predictive standard deviation by `factor`."""
        self.widening.assign(self.widening * factor)

    def normal(self, loc, scale) -> tfd.Distribution:
        """Returns Normal(m + s loc, w s scale) with the event shape of the response; `widen` sets w."""
        mean, stddev = tf.convert_to_tensor(self.response_mean), tf.convert_to_tensor(self.response_stddev)
        return independent(tfd.Normal(mean + stddev * loc, self.widening * stddev * scale), self.event_shape)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Normal(StandardizedResponse):
    """Linear regression on z, with one learned scale for each entry of y.

        (y - m) / s | z ~ Normal(beta^T z + b, exp(log_scale))

    with m and s the mean and standard deviation of the responses, which `adapt` sets (`HybridModel.fit` calls it).

    Args:
      event_shape: The shape of one response, `()` or `(k,)`; its entries are independent given z.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.
    """

    has_independent_predictors = True

    def __init__(self, event_shape: int | tuple[int, ...] = (), **kwargs):
        super().__init__(event_shape, **kwargs)

    def build(self, latent_shape):
        super().build(latent_shape)
        self.log_scale = self.add_weight(shape=self.event_shape, initializer="zeros", name="log_scale")

    def distribution(self, eta) -> tfd.Distribution:
        return self.normal(eta, tf.exp(self.log_scale))

    def integrated(self, z, posterior: Posterior) -> tfd.Distribution:
        """The Student-t of a `NormalInverseGamma`; a Normal of variance exp(log_scale)^2 + V of any other posterior."""
        if not isinstance(posterior, NormalInverseGamma):
            variance = self.shaped(tf.reduce_sum(posterior.predictor_factor(z) ** 2, -1))
            eta = self.shaped(posterior.linear_predictor(z))
            return self.normal(eta, tf.sqrt(tf.exp(2 * self.log_scale) + variance))
        concentration, rates = tf.convert_to_tensor(posterior.concentration), tf.convert_to_tensor(posterior.rates)
        scale = tf.sqrt(rates / concentration * (1 + posterior.spread(z)[..., tf.newaxis]))
        loc, scale = self.shaped(posterior.linear_predictor(z)), self.shaped(scale)
        mean, stddev = tf.convert_to_tensor(self.response_mean), tf.convert_to_tensor(self.response_stddev)
        y = tfd.StudentT(2 * concentration, mean + stddev * loc, self.widening * stddev * scale)
        return independent(y, self.event_shape)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class HeteroscedasticNormal(StandardizedResponse):
    """Linear regression on z, whose scale is also a function of z.

        (y - m) / s | z ~ Normal(beta_1^T z + b_1, softplus(beta_2^T z + b_2) + 1e-3)

    with m and s the mean and standard deviation of the responses, which `adapt` sets (`HybridModel.fit` calls it).

    Args:
      event_shape: The shape of one response, `()` or `(k,)`; its entries are independent given z.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    References:
      Nalisnick et al. 2019, section 5.1 (flight delays).
    """

    has_independent_predictors = True

    def __init__(self, event_shape: int | tuple[int, ...] = (), **kwargs):
        super().__init__(event_shape, predictors=2, **kwargs)

    def distribution(self, eta) -> tfd.Distribution:
        scale = tf.math.softplus(eta[..., 1]) + 1e-3
        return self.normal(eta[..., 0], scale)

    def information(self, eta, y) -> tf.Tensor:
        """Fisher's information: 1 / (w scale)^2 on the mean and 2 (scale' / scale)^2 on the scale."""
        of_scale = self.shaped(eta)[..., 1]
        scale = tf.math.softplus(of_scale) + 1e-3
        parts = [1 / (self.widening * scale) ** 2, 2 * (tf.sigmoid(of_scale) / scale) ** 2]
        return tf.linalg.diag(tf.reshape(tf.stack(parts, -1), tf.shape(eta)))


def independent(distribution: tfd.Distribution, event_shape: tuple[int, ...]) -> tfd.Distribution:
    """Returns `distribution` with its last `len(event_shape)` batch axes as the axes of one event."""
    return tfd.Independent(distribution, len(event_shape)) if event_shape else distribution
