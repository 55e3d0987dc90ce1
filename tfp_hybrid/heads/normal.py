"""Gaussian heads for regression."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Normal(Head):
    """Linear regression on z with one learned scale for each entry of y.

        y | z ~ Normal(beta^T z + b, exp(log_scale))

    Args:
      event_shape: shape of one response, `()` or `(k,)`; entries are independent given z.
      **kwargs: of `Head`: `kernel_initializer`, `kernel_regularizer`, and those of a Keras layer.
    """

    def __init__(self, event_shape=(), **kwargs):
        super().__init__(event_shape, **kwargs)

    def build(self, latent_shape):
        super().build(latent_shape)
        self.log_scale = self.add_weight(shape=self.event_shape, initializer="zeros", name="log_scale")

    def distribution(self, eta):
        return independent(tfd.Normal(eta, tf.exp(self.log_scale)), self.event_shape)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class HeteroscedasticNormal(Head):
    """Linear regression on z whose scale is a function of z, too.

        y | z ~ Normal(beta_1^T z + b_1, softplus(beta_2^T z + b_2) + 1e-3)

    Scale your responses to about unit variance; the last term then bounds the density.

    Args:
      event_shape: shape of one response, `()` or `(k,)`; entries are independent given z.
      **kwargs: of `Head`: `kernel_initializer`, `kernel_regularizer`, and those of a Keras layer.

    References:
      Nalisnick et al. 2019, section 5.1 (flight delays).
    """

    def __init__(self, event_shape=(), **kwargs):
        super().__init__(event_shape, predictors=2, **kwargs)

    def distribution(self, eta):
        scale = tf.math.softplus(eta[..., 1]) + 1e-3
        return independent(tfd.Normal(eta[..., 0], scale), self.event_shape)


def independent(distribution, event_shape):
    """`distribution` with its last axes as one event of this shape."""
    return tfd.Independent(distribution, len(event_shape)) if event_shape else distribution
