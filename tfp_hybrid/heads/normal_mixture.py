"""A head for responses with heavy or skewed tails: a mixture of Normals."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.arguments import check_count
from tfp_hybrid.heads.normal import StandardizedResponse

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class NormalMixture(StandardizedResponse):
    """A mixture of K Normals whose weights, means and scales are functions of z.

        p((y - m) / s | z) = sum_k w_k Normal(mu_k, sigma_k)
        w = softmax(eta_1),   mu_k = eta_2k + a_k,   sigma_k = softplus(eta_3k + a_k) + 1e-3

    with `eta = beta^T z + b`, and m and s the mean and standard deviation of the responses, which `adapt` sets
    (`HybridModel.fit` calls it). The offsets a_k = 0, ..., K - 1 separate the components at the start: the first one
    covers the bulk of the responses, and each further one is higher and wider.

    Args:
      components: The number of components K, at least 2.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    Raises:
      ValueError: If `components` is not a whole number >= 2, or if `event_shape` is given.

    References:
      Bishop 1994, "Mixture Density Networks".
    """

    location_predictor = None

    def __init__(self, components: int = 3, **kwargs):
        check_count(components, "NormalMixture: `components`", least=2)
        self.refuse(kwargs, "event_shape", "the response is one number")
        super().__init__((), predictors=3 * components, **kwargs)
        self.components = components

    def distribution(self, eta) -> tfd.MixtureSameFamily:
        logits, loc, scale = tf.split(eta, 3, axis=-1)
        offsets = np.arange(self.components, dtype=self.variable_dtype)
        probs = tf.nn.softmax(logits)
        loc, scale = loc + offsets, tf.math.softplus(scale + offsets) + 1e-3
        # `widen` stretches the whole mixture about its mean.
        mean = tf.reduce_sum(probs * loc, -1, keepdims=True)
        components = self.normal(mean + self.widening * (loc - mean), scale)
        return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), components)

    def get_config(self) -> dict:
        config = super().get_config() | {"components": self.components}
        del config["event_shape"]
        return config
