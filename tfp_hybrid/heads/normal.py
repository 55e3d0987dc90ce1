"""Gaussian heads for regression."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.moments import location_and_scale

tfd = tfp.distributions


class StandardizedResponse(Head):
    """A head that predicts `(y - m) / s`, and gives the distribution of y itself.

    m and s, the responses' mean and standard deviation, are weights that are not trained: 0 and 1 until `adapt`,
    which `HybridModel.fit` calls if nobody has. So the optimizer sees responses of unit variance, in whatever unit
    they are, and log p(y|x) is that of y as given. `widen` sets one more, the factor of the standard deviation.
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

    def adapt(self, y):
        mean, stddev = location_and_scale(self.prepare_labels(y))
        self.response_mean.assign(tf.cast(mean, self.variable_dtype))
        self.response_stddev.assign(tf.cast(stddev, self.variable_dtype))

    def is_adapted(self):
        mean, stddev = self.response_mean.numpy(), self.response_stddev.numpy()
        return bool((mean != 0).any() or (stddev != 1).any())

    def widen(self, factor):
        """Multiplies the predictive standard deviation by `factor`."""
        self.widening.assign(self.widening * factor)

    def normal(self, loc, scale) -> tfd.Distribution:
        """Normal(m + s loc, w s scale), with w what `widen` has set, and the response's event shape."""
        mean, stddev = tf.convert_to_tensor(self.response_mean), tf.convert_to_tensor(self.response_stddev)
        return independent(tfd.Normal(mean + stddev * loc, self.widening * stddev * scale), self.event_shape)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Normal(StandardizedResponse):
    """Linear regression on z with one learned scale for each entry of y.

        (y - m) / s | z ~ Normal(beta^T z + b, exp(log_scale))

    with m and s the responses' mean and standard deviation, set by `adapt` (`HybridModel.fit` does it).

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
        return self.normal(eta, tf.exp(self.log_scale))


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class HeteroscedasticNormal(StandardizedResponse):
    """Linear regression on z whose scale is a function of z, too.

        (y - m) / s | z ~ Normal(beta_1^T z + b_1, softplus(beta_2^T z + b_2) + 1e-3)

    with m and s the responses' mean and standard deviation, set by `adapt` (`HybridModel.fit` does it).

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
        return self.normal(eta[..., 0], scale)


def independent(distribution, event_shape):
    """`distribution` with its last axes as one event of this shape."""
    return tfd.Independent(distribution, len(event_shape)) if event_shape else distribution
