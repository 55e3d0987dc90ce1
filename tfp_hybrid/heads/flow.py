"""A head for responses that no family fits: a spline flow of y whose knots are functions of z."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors.rational_quadratic import inverse_spline, spline
from tfp_hybrid.bijectors.spline import check_spline
from tfp_hybrid.heads.normal import StandardizedResponse

tfb, tfd = tfp.bijectors, tfp.distributions
_END, _POINTS = 9.0, 361  # of the integrals over u


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Flow(StandardizedResponse):
    """A conditional spline flow of one response: any shape of p(y|z), with several modes, skew or edges.

        (y - m) / s = mu + sigma g(u),      u ~ Normal(0, 1)

    mu, sigma = softplus(eta_2) + 1e-3 and the knots of g, a monotone rational-quadratic spline on [-bound, bound], are
    linear in z, with `eta = beta^T z + b`; outside, g is the identity. It starts as a Normal. m and s are the mean and
    standard deviation of the responses, which `adapt` sets (`HybridModel.fit` calls it). Mean and variance are
    integrals over u, by the trapezoidal rule; density, cdf and quantiles have closed forms.

    Args:
      bins: The number of pieces of the spline.
      bound: The end of the interval on which it is not the identity, in standard deviations of u.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    Raises:
      ValueError: If there are fewer than two bins, if the bound is not positive, or if `event_shape` is given.

    References:
      Durkan, Bekasov, Murray and Papamakarios 2019, "Neural Spline Flows"; Trippe and Turner 2018, "Conditional Density
      Estimation with Bayesian Normalising Flows".
    """

    def __init__(self, bins: int = 8, bound: float = 4.0, **kwargs):
        check_spline("Flow", bins, bound)
        self.refuse(kwargs, "event_shape", "the response is one number")
        super().__init__((), predictors=3 * bins + 1, **kwargs)
        self.bins, self.bound = bins, float(bound)

    def distribution(self, eta) -> tfd.Distribution:
        loc, scale = eta[..., 0], tf.math.softplus(eta[..., 1]) + 1e-3
        mean, stddev = tf.convert_to_tensor(self.response_mean), tf.convert_to_tensor(self.response_stddev)
        widening = tf.convert_to_tensor(self.widening)
        return _SplineNormal(mean + stddev * loc, stddev * scale, widening, eta[..., 2:], self.bound)

    def get_config(self) -> dict:
        config = super().get_config() | {"bins": self.bins, "bound": self.bound}
        del config["event_shape"]
        return config


def _spline_bijector(raw, bound):
    return tfb.Inline(
        forward_fn=lambda u: spline(u, raw, bound)[0],
        inverse_fn=lambda v: inverse_spline(v, raw, bound)[0],
        inverse_log_det_jacobian_fn=lambda v: inverse_spline(v, raw, bound)[1],
        forward_min_event_ndims=0,
        is_increasing=True,
        name="spline",
    )


class _SplineNormal(tfd.TransformedDistribution):
    """loc + scale g(u), stretched about its mean by a factor; g is the spline of `raw` on [-bound, bound]."""

    def __init__(self, loc, scale, factor, raw, bound, name="SplineNormal"):
        parameters = dict(locals())
        spline = _spline_bijector(raw, bound)
        self._loc, self._scale, self._factor, self._spline = loc, scale, factor, spline
        mean = self._moment(lambda v: v)
        shift = loc + scale * (1 - factor) * mean
        bijector = tfb.Chain([tfb.Shift(shift), tfb.Scale(factor * scale), spline])
        super().__init__(tfd.Normal(tf.zeros_like(loc), tf.ones_like(loc)), bijector, parameters=parameters, name=name)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        scalars = {name: tfp.util.ParameterProperties() for name in ("loc", "scale", "factor")}
        return scalars | {"raw": tfp.util.ParameterProperties(event_ndims=1)}

    def _moment(self, function):
        """E[function(g(u))], `(...)`."""
        u = np.linspace(-_END, _END, _POINTS)
        weights = np.exp(-(u**2) / 2)
        u = tf.reshape(tf.constant(u, self._loc.dtype), [-1] + [1] * self._loc.shape.rank)
        values = function(self._spline.forward(tf.broadcast_to(u, tf.concat([[_POINTS], tf.shape(self._loc)], 0))))
        return tf.tensordot(tf.constant(weights / weights.sum(), values.dtype), values, axes=1)

    def _mean(self, **kwargs):
        return self._loc + self._scale * self._moment(lambda v: v)

    def _variance(self, **kwargs):
        mean = self._moment(lambda v: v)
        return (self._factor * self._scale) ** 2 * self._moment(lambda v: (v - mean) ** 2)

    def _stddev(self, **kwargs):
        return tf.sqrt(self._variance())
