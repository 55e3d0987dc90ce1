"""Head for responses with heavy or skewed tails: a mixture of Normals."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.normal import StandardizedResponse

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class NormalMixture(StandardizedResponse):
    """Mixture of K Normals whose weights, means and scales are functions of z.

        p((y - m) / s | z) = sum_k w_k Normal(mu_k, sigma_k)
        w = softmax(eta_1),   mu_k = eta_2k + a_k,   sigma_k = softplus(eta_3k + a_k) + 1e-3

    with `eta = beta^T z + b`, and m and s the responses' mean and standard deviation, set by `adapt`
    (`HybridModel.fit` does it). The offsets a_k, from 0 to K - 1, keep the components apart at the start: the first
    takes the bulk, the others what is above it and wider.

    Args:
      components: K >= 2.
      **kwargs: of `Head`: `kernel_initializer`, `kernel_regularizer`, and those of a Keras layer.

    Raises:
      ValueError: if `components` < 2, or for an `event_shape`.

    References:
      Bishop 1994, "Mixture Density Networks".
    """

    def __init__(self, components=3, **kwargs):
        if components < 2 or components != int(components):
            raise ValueError(f"NormalMixture: `components` is {components}; wanted a whole number, at least 2.")
        self.refuse(kwargs, "event_shape", "the response is one number")
        super().__init__((), predictors=3 * components, **kwargs)
        self.components = components

    def distribution(self, eta):
        logits, loc, scale = tf.split(eta, 3, axis=-1)
        offsets = np.arange(self.components, dtype=self.variable_dtype)
        probs = tf.nn.softmax(logits)
        loc, scale = loc + offsets, tf.math.softplus(scale + offsets) + 1e-3
        # `widen` stretches the whole about its mean.
        mean = tf.reduce_sum(probs * loc, -1, keepdims=True)
        components = self.normal(mean + self.widening * (loc - mean), scale)
        return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), components)

    def get_config(self):
        config = super().get_config() | {"components": self.components}
        del config["event_shape"]
        return config
