"""Heads for the families of `tfp.glm`, such as counts and positive numbers."""

import inspect

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.normal import independent
from tfp_hybrid.heads.posterior import Posterior
from tfp_hybrid.interop import ModuleLayer
from tfp_hybrid.serialization import deserialize, serialize

tfd = tfp.distributions

FAMILIES = {
    name: family
    for name in dir(tfp.glm)  # not `vars`, since the module loads at its first use
    if inspect.isclass(family := getattr(tfp.glm, name))
    and issubclass(family, tfp.glm.ExponentialFamily)
    and family not in (tfp.glm.ExponentialFamily, tfp.glm.CustomExponentialFamily)
}
_INTEGER = ("Bernoulli", "Binomial", "NegativeBinomial", "Poisson")
_POSITIVE = ("Gamma", "LogNormal")
_FAR = 40.0  # of a linear predictor


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class ExponentialFamily(Head):
    """A generalized linear model with any family of `tfp.glm`, which sets the distribution of y and the link g.

        E[y | z] = g^-1(beta^T z + b)                                          (eq. 2 of the paper)

    Args:
      family: A `tfp.glm.ExponentialFamily`, such as `tfp.glm.NegativeBinomial(total_count=5.)`, or the name of one,
        such as "Poisson" (log link), "PoissonSoftplus", "GammaExp", "LogNormal" or "BernoulliNormalCDF" (probit).
        A `tf.Variable` or `tfp.util.TransformedVariable` among its arguments, such as a dispersion, is trained.
      event_shape: The shape of one response, `()` or `(k,)`; its entries are independent given z.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    Raises:
      ValueError: If `family` is neither a family nor the name of one.
    """

    has_independent_predictors = True

    def __init__(self, family: str | tfp.glm.ExponentialFamily, event_shape: int | tuple[int, ...] = (), **kwargs):
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
        self.bias.assign(tf.fill(self.bias.shape, self._initial_eta))

    @property
    def _initial_eta(self):
        """A linear predictor at which the mean is finite: 0, or 1 for a reciprocal link."""
        zero = tf.zeros((), self.variable_dtype)
        return zero if np.isfinite(self.family.as_distribution(zero).mean()) else zero + 1

    @property
    def family(self) -> tfp.glm.ExponentialFamily:
        """The family, with its trained arguments."""
        return self.dispersion.module

    def share(self, variables: list[keras.Variable]):
        self.dispersion.leave_out(variables)

    def distribution(self, eta) -> tfd.Distribution:
        return independent(self.family.as_distribution(eta), self.event_shape)

    def information(self, eta, y) -> tf.Tensor:
        """Fisher's information, (dE[y]/deta)^2 / Var[y] of each entry; that of log y for a LogNormal family."""
        if type(self.family).__name__.startswith("LogNormal"):
            return super().information(eta, y)
        # Far out, where float32 has no more digits for a mean, its slope or its variance, a row tells next to nothing.
        _, variance, slope = self.family(tf.clip_by_value(eta, -_FAR, _FAR))
        return tf.linalg.diag(tf.math.divide_no_nan(slope**2, variance))

    def check_labels(self, y: np.ndarray):
        super().check_labels(y)
        name = type(self.family).__name__
        values = y.astype(float)
        if name.startswith(_INTEGER) and (values != np.round(values)).any():
            example = values[values != np.round(values)].ravel()[0]
            raise ValueError(f"y holds {example}; wanted whole numbers for the family {name}.")
        # In the support, the density is finite for every linear predictor.
        log_prob = self.family.as_distribution(tf.fill(values.shape, self._initial_eta)).log_prob(
            tf.cast(values, self.variable_dtype)
        )
        outside = ~np.isfinite(log_prob.numpy())
        if name.startswith(_POSITIVE):  # the formulas of these densities may be finite below zero, too
            outside |= values <= 0
        if outside.any():
            raise ValueError(
                f"y holds {values[outside].ravel()[0]}; wanted values in the support of the family {name}."
            )

    def get_config(self) -> dict:
        return super().get_config() | {"family": serialize(self.family)}

    @classmethod
    def from_config(cls, config: dict):
        if isinstance(config["family"], dict):
            config = config | {"family": deserialize(config["family"])}
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Bernoulli(ExponentialFamily):
    """Logistic regression on z, for labels 0 and 1.

        p(y = 1 | z) = sigmoid(beta^T z + b)

    Args:
      event_shape: `()`, or `(k,)` for k labels that are independent given z.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    Raises:
      ValueError: If `family` is given; `ExponentialFamily` takes one.
    """

    classifies = True
    can_widen = True

    def __init__(self, event_shape: int | tuple[int, ...] = (), **kwargs):
        self.refuse(kwargs, "family", "this head sets it; `ExponentialFamily` takes any family")
        super().__init__(tfp.glm.Bernoulli(), event_shape, **kwargs)
        self.num_classes = None if self.event_shape else 2

    def integrated(self, z, posterior: Posterior) -> tfd.Distribution:
        """A Bernoulli again, with the average of the probabilities."""
        eta, weights = posterior.nodes(z)
        log_weights = tf.constant(np.log(weights)[:, np.newaxis], eta.dtype)
        yes, no = (tf.reduce_logsumexp(tf.math.log_sigmoid(side) + log_weights, -2) for side in (eta, -eta))
        return independent(tfd.Bernoulli(logits=self.shaped(yes - no)), self.event_shape)

    def metric(self) -> keras.metrics.Metric:
        return keras.metrics.BinaryAccuracy(name="accuracy")

    def check_labels(self, y: np.ndarray):
        Head.check_labels(self, y)
        if ((y != 0) & (y != 1)).any():
            raise ValueError(f"y has values from {y.min()} to {y.max()}; wanted labels 0 and 1.")

    @classmethod
    def from_config(cls, config: dict):
        """As the base class; the family in the config is left out, since this head sets it itself."""
        return cls(**{name: value for name, value in config.items() if name != "family"})
