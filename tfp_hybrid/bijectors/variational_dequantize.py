"""`VariationalDequantize`: integers become reals by noise whose distribution is learned."""

import tensorflow as tf

from tfp_hybrid import _compat
from tfp_hybrid.bijectors.affine_coupling import AffineCoupling
from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.dequantize import Dequantize

_EDGE = 2.0**-20  # what the noise keeps from 0 and 1, where its logit is infinite


class VariationalDequantize(Dequantize):
    """Maps integers 0 .. L-1 to reals in [0, L), by noise u with a density q(u | x), a conditional flow.

        inverse:  z = x + u,   u = sigmoid(flow(logit(e); x)),   e uniform         forward:  x = floor(z)
        "log|det dz/dx|" = -log q(u | x) = log|det du/de|
        E_q[log p(x + u) - log q(u | x)] <= log P(x)

    So log p(x) of a model is a lower bound on the log probability of the integers, in the mean over u. With uniform
    noise, a flow has to fill each unit cube evenly; here q learns what fits the flow, and the gap is the divergence
    KL(q(u | x) || p(u | x)). The default q starts as uniform noise. As for `Dequantize`, e is fresh in training, and
    else a fixed function of x; `DensityModel.log_prob(x, draws=k)` is the importance-weighted bound, which rises to
    log P(x) with k.

    Args:
      event_shape: The shape of one data point, `(d,)` or `(H, W, C)`.
      quantization_levels: The number L of integer values.
      flow: A bijector from the noise to `event_shape`, with a `condition_shape` that is `event_shape`: it sees x scaled
        to [-1/2, 1/2]. By default, four affine couplings, for images with checkerboard masks.
      dtype: The dtype of z.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: As `Dequantize`; or if `flow` is not as above, or if it is missing for events of one entry.

    References:
      Ho, Chen, Srinivas, Duan and Abbeel 2019, "Flow++: Improving Flow-Based Generative Models with Variational
      Dequantization and Architecture Design", eq. 12; Hoogeboom, Cohen and Tomczak 2020, "Learning Discrete
      Distributions by Dequantization" (the importance-weighted bound).

    Example:

    >>> dequantize = bijectors.VariationalDequantize((8, 8, 1), quantization_levels=17)
    >>> scaled = bijectors.integer_preprocessing((8, 8, 1), 17, dequantize=dequantize)
    >>> flow = bijectors.FusedChain([*scaled, bijectors.Glow((8, 8, 1), quantization_levels=None)], (8, 8, 1))
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        quantization_levels: int = 256,
        flow: FusedBijector | None = None,
        dtype: str = "float32",
        name: str = "variational_dequantize",
    ):
        super().__init__(event_shape, quantization_levels, dtype, name)
        shape = tuple(self.event_shape)
        if flow is None:
            mask = "checkerboard" if len(shape) == 3 else "channel"
            options = dict(mask=mask, condition_shape=shape, dtype=dtype)
            flow = FusedChain(
                [AffineCoupling(shape, swap=swap, **options) for swap in (False, True) * 2], shape, "noise"
            )
        given = [getattr(flow, name, None) for name in ("event_shape", "condition_shape")]
        if given != [self.event_shape, self.event_shape]:
            raise ValueError(
                f"VariationalDequantize: `flow` is {flow!r}; wanted a bijector of this package with `event_shape` and "
                f"`condition_shape` {shape}."
            )
        self.flow = flow
        _compat.set_parameter(self, "flow", flow)

    def _inverse_and_log_det(self, x, training=False):
        e = tf.clip_by_value(self._uniform(x, training), _EDGE, 1 - _EDGE)
        start = tf.math.log(e) - tf.math.log1p(-e)
        start = tf.reshape(start, tf.concat([self.batch_shape_of(x), self.flow.latent_shape], 0))
        logit, log_det = self.flow.forward_and_log_det(start, training=training, condition=self._scaled(x))
        log_det += self._log_slopes(logit) - self._log_slopes(tf.reshape(start, tf.shape(x)))
        return self._in_cell(x, tf.sigmoid(logit)), log_det

    def _log_slopes(self, logit):
        """The sum over an event of the log of the slope of the sigmoid."""
        return tf.reduce_sum(-tf.nn.softplus(logit) - tf.nn.softplus(-logit), list(range(-self.event_shape.rank, 0)))

    def _scaled(self, x):
        return tf.cast(x, self._float) / (self.quantization_levels - 1) - 0.5

    def adapt(self, x) -> tf.Tensor:
        """Adapts the flow to noise without regard to x, and returns `inverse(x)`."""
        e = tf.clip_by_value(self._uniform(x, training=False), _EDGE, 1 - _EDGE)
        self.flow.adapt(tf.math.log(e) - tf.math.log1p(-e), self._scaled(x))
        return super().adapt(x)

    def is_adapted(self) -> bool:
        return self.flow.is_adapted()
