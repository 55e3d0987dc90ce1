"""A head for counts of which more are zero than a family of counts has."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.exponential_family import ExponentialFamily
from tfp_hybrid.heads.normal import independent

tfd = tfp.distributions
_COUNTS = ("Binomial", "NegativeBinomial", "Poisson")
_FEW = -2.0  # the first linear predictor at the start, for 12 % of extra zeros


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class ZeroInflated(ExponentialFamily):
    """Counts that are zero for two reasons: always, or by chance.

        p(y | z) = w [y = 0] + (1 - w) p(y | eta_2),   w = sigmoid(eta_1),   eta = beta^T z + b

    p(y | eta_2) is a family of `tfp.glm`. So someone who never fishes is told from someone who caught nothing.

    Args:
      family: A family of counts, or its name: a Poisson, negative binomial or binomial one. A `tf.Variable` among its
        arguments is trained.
      event_shape: The shape of one response, `()` or `(k,)`; its entries are independent given z.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    Raises:
      ValueError: If `family` is not such a family.

    References:
      Lambert 1992, "Zero-Inflated Poisson Regression, with an Application to Defects in Manufacturing".
    """

    has_independent_predictors = False
    location_predictor = 1

    def __init__(self, family: str | tfp.glm.ExponentialFamily = "Poisson", event_shape=(), **kwargs):
        super().__init__(family, event_shape, predictors=2, **kwargs)
        if not type(self.family).__name__.startswith(_COUNTS):
            raise ValueError(
                f"ZeroInflated: `family` is {type(self.family).__name__}; wanted a family of counts, such as "
                f"{', '.join(_COUNTS)}."
            )

    def build(self, latent_shape):
        super().build(latent_shape)
        self.bias.assign(np.tile([_FEW, float(self._initial_eta)], self.bias.shape[0] // 2))

    def distribution(self, eta) -> tfd.Distribution:
        counts = self.family.as_distribution(eta[..., 1])
        # TFP takes the logits of w and of 1 - w to be l and -l, whose softmax is sigmoid(2 l).
        return independent(tfd.Inflated(counts, inflated_loc_logits=eta[..., 0] / 2), self.event_shape)

    def information(self, eta, y) -> tf.Tensor:
        return Head.information(self, eta, y)
