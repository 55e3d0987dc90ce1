"""Heads for any family of `tfp.glm`: counts, positive numbers, proportions, ..."""

import inspect

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.normal import independent
from tfp_hybrid.interop import ModuleLayer
from tfp_hybrid.serialization import deserialize, serialize

FAMILIES = {
    name: family
    for name in dir(tfp.glm)  # not `vars`: the module loads at its first use
    if inspect.isclass(family := getattr(tfp.glm, name))
    and issubclass(family, tfp.glm.ExponentialFamily)
    and family not in (tfp.glm.ExponentialFamily, tfp.glm.CustomExponentialFamily)
}
_INTEGER = ("Bernoulli", "Binomial", "NegativeBinomial", "Poisson")
_POSITIVE = ("Gamma", "LogNormal")


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class ExponentialFamily(Head):
    """Generalized linear model with any family of `tfp.glm`, which sets the response and the link g.

        E[y | z] = g^-1(beta^T z + b)                                          (eq. 2 of the paper)

    Args:
      family: a `tfp.glm.ExponentialFamily`, such as `tfp.glm.NegativeBinomial(total_count=5.)`, or its name,
        such as "Poisson" (log link), "PoissonSoftplus", "GammaExp", "LogNormal", "BernoulliNormalCDF" (probit).
        A `tf.Variable` or `tfp.util.TransformedVariable` among its arguments (a dispersion) is trained.
      event_shape: shape of one response, `()` or `(k,)`; entries are independent given z.
      **kwargs: of `Head`: `kernel_initializer`, `kernel_regularizer`, and those of a Keras layer.

    Raises:
      ValueError: for an unknown family.
    """

    def __init__(self, family, event_shape=(), **kwargs):
        if isinstance(family, str) and family in FAMILIES:
            family = FAMILIES[family]()
        if not isinstance(family, tfp.glm.ExponentialFamily):
            raise ValueError(
                f"ExponentialFamily: `family` is {family!r}; wanted a `tfp.glm.ExponentialFamily`, or one of "
                f"{', '.join(sorted(FAMILIES))}."
            )
        super().__init__(event_shape, **kwargs)
        self.dispersion = ModuleLayer(family, name="dispersion")

    def build(self, latent_shape):
        super().build(latent_shape)
        self.bias.assign(tf.fill(self.bias.shape, self._start))

    @property
    def _start(self):
        """A linear predictor at which the mean is finite: 0, or 1 for a reciprocal link."""
        zero = tf.zeros((), self.variable_dtype)
        return zero if np.isfinite(self.family.as_distribution(zero).mean()) else zero + 1

    @property
    def family(self) -> tfp.glm.ExponentialFamily:
        """The family."""
        return self.dispersion.module

    def share(self, variables):
        self.dispersion.leave_out(variables)

    def distribution(self, eta):
        return independent(self.family.as_distribution(eta), self.event_shape)

    def check_labels(self, y):
        super().check_labels(y)
        name = type(self.family).__name__
        values = y.astype(float)
        if name.startswith(_INTEGER) and (values != np.round(values)).any():
            example = values[values != np.round(values)].ravel()[0]
            raise ValueError(f"y holds {example}; wanted whole numbers for the family {name}.")
        # Everywhere in the support the density is finite, at any parameter.
        log_prob = self.family.as_distribution(tf.fill(values.shape, self._start)).log_prob(
            tf.cast(values, self.variable_dtype)
        )
        outside = ~np.isfinite(log_prob.numpy())
        if name.startswith(_POSITIVE):  # an exponential's formula is finite below zero, too
            outside |= values <= 0
        if outside.any():
            raise ValueError(
                f"y holds {values[outside].ravel()[0]}, which is outside of the support of the family {name}."
            )

    def get_config(self):
        return super().get_config() | {"family": serialize(self.family)}

    @classmethod
    def from_config(cls, config):
        if isinstance(config["family"], dict):
            config = config | {"family": deserialize(config["family"])}
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Bernoulli(ExponentialFamily):
    """Logistic regression on z, for labels 0 and 1.

        p(y = 1 | z) = sigmoid(beta^T z + b)

    Args:
      event_shape: `()`, or `(k,)` for k labels, independent given z.
      **kwargs: of `Head`: `kernel_initializer`, `kernel_regularizer`, and those of a Keras layer.

    Raises:
      ValueError: for a `family`; that is what `ExponentialFamily` is for.
    """

    classifies = True
    can_widen = True

    def __init__(self, event_shape=(), **kwargs):
        self.refuse(kwargs, "family", "it is tfp.glm.Bernoulli's; `ExponentialFamily` takes others")
        super().__init__(tfp.glm.Bernoulli(), event_shape, **kwargs)

    def metric(self):
        return keras.metrics.BinaryAccuracy(name="accuracy")

    def check_labels(self, y):
        Head.check_labels(self, y)
        if ((y != 0) & (y != 1)).any():
            raise ValueError(f"y has values from {y.min()} to {y.max()}; wanted labels 0 and 1.")

    @classmethod
    def from_config(cls, config):
        """The config holds a family, as every `ExponentialFamily`'s does."""
        return cls(**{name: value for name, value in config.items() if name != "family"})
