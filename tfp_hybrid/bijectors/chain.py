"""`FusedChain`: a composition of bijectors, evaluated in one pass."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat
from tfp_hybrid.bijectors import conditions, description, one_pass, recompute
from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.channel_affine import folded

tfb = tfp.bijectors


@_compat.ignoring("_folded")
class FusedChain(FusedBijector):
    """A composition of our bijectors and TFP's, evaluated in one pass.

    As in `tfb.Chain`, `forward` applies the last bijector first, so the first bijector is next to the data:

        forward(z) = b_0(b_1(... b_k(z)))           log|det dx/dz| = sum_i log|det J_{b_i}|

    Args:
      bijectors: The bijectors, the data side first. TFP bijectors are evaluated through `inverse` and
        `inverse_log_det_jacobian`.
      event_shape: The shape of one data point x.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If `bijectors` is empty, or holds something that is not a `tfb.Bijector`, or if they take conditions
        of different shapes.

    Example:

    >>> chain = FusedChain([tfb.Exp(), ActNorm((3,))], event_shape=(3,))
    >>> x = chain.forward(tf.zeros((2, 3)))
    """

    def __init__(self, bijectors: list[tfb.Bijector], event_shape: tuple[int, ...], name: str = "fused_chain"):
        parameters = dict(locals())
        if not bijectors:
            raise ValueError("FusedChain: `bijectors` is empty; wanted at least one `tfb.Bijector`.")
        for bijector in bijectors:
            if not isinstance(bijector, tfb.Bijector):
                raise ValueError(f"FusedChain: `bijectors` holds {bijector!r}; wanted `tfb.Bijector`s.")
        self.bijectors = list(bijectors)
        shape = tf.TensorShape(event_shape)
        for bijector in self.bijectors:
            shape = bijector.inverse_event_shape(shape)
        condition_shape = conditions.shape_of_all(self.bijectors, "FusedChain")
        super().__init__(event_shape, shape, condition_shape, parameters=parameters, name=name)
        self._folded = folded(self.bijectors)
        self.is_exact = all(getattr(bijector, "is_exact", True) for bijector in self.bijectors)

    def _forward_and_log_det(self, z, training=False, condition=None):
        x, log_det = one_pass.chain_forward_and_log_det(self._folded, z, self.latent_shape.rank, training, condition)
        return x, _to_batch(log_det, z, self.latent_shape.rank)

    def _inverse_and_log_det(self, x, training=False, condition=None):
        z, log_det = one_pass.chain_inverse_and_log_det(self._folded, x, self.event_shape.rank, training, condition)
        return z, _to_batch(log_det, x, self.event_shape.rank)

    def _inverse_and_log_dets(self, x, training=False, condition=None):
        *first, last = self._folded
        event_ndims = self.event_shape.rank
        value, log_det = one_pass.chain_inverse_and_log_det(first, x, event_ndims, training, condition)
        for bijector in first:
            event_ndims = bijector.inverse_event_ndims(event_ndims)
        z, log_dets = one_pass.inverse_and_log_dets(last, value, event_ndims, training, condition)
        log_dets = [log_dets[0] + log_det, *log_dets[1:]]
        return z, [_to_batch(part, x, self.event_shape.rank) for part in log_dets]

    def level_sizes(self) -> list[int]:
        """Returns those of the last bijector, whose z is that of the chain."""
        shape = self.event_shape
        for bijector in self.bijectors[:-1]:
            shape = bijector.inverse_event_shape(shape)
        return one_pass.level_sizes(self.bijectors[-1], shape)

    def pull_back(self, z, dz, dlog_det, training: bool = False, condition=None) -> tuple:
        """As in the base class, for one bijector after another."""
        weights, event_ndims = self.keras_weights(), self.latent_shape.rank
        return recompute.pull_back_chain(self._folded, z, dz, dlog_det, event_ndims, weights, training, condition)

    @property
    def rows_to_adapt(self) -> int:
        """The most that one of the bijectors needs."""
        return max(map(one_pass.rows_to_adapt, self.bijectors))

    def adapt(self, x, condition=None) -> tf.Tensor:
        """Sets the data-dependent weights of each bijector from its own input, and returns `inverse(x)`."""
        for bijector in self.bijectors:
            x = one_pass.adapt(bijector, x, condition)
        return x

    def is_adapted(self) -> bool:
        """Returns False if one of the bijectors has not been adapted yet."""
        return all(map(one_pass.is_adapted, self.bijectors))

    def describe(self) -> list[description.FlowStep]:
        """Lists the steps of each bijector; see the base class."""
        steps, shape = [], self.event_shape
        for bijector in self.bijectors:
            steps += description.steps_of(bijector, shape)
            shape = bijector.inverse_event_shape(shape)
        return steps


def _to_batch(log_det, value, event_ndims):
    """Broadcasts the constant log-det of a stock bijector over the batch."""
    if log_det.shape.rank == value.shape.rank - event_ndims:
        return log_det
    return tf.broadcast_to(log_det, tf.shape(value)[: tf.rank(value) - event_ndims])
