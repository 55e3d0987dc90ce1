"""A chain of bijectors that stays fused."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors import base
from tfp_hybrid.bijectors.channel_affine import folded

tfb = tfp.bijectors


class FusedChain(base.FusedBijector):
    """Composition of bijectors, ours and stock, evaluated in one pass.

    As `tfb.Chain`, the last bijector is applied first by `forward`; so the first one is next to the data:

        forward(z) = b_0(b_1(... b_k(z)))           log|det dx/dz| = sum_i log|det J_{b_i}|

    Args:
      bijectors: the bijectors, the data side first. Bijectors of TFP are asked the usual way.
      event_shape: shape of one data point x.
      name: prefix of the names of the ops.

    Raises:
      ValueError: if `bijectors` is empty, or holds something that is no `tfb.Bijector`.

    Example:

    >>> chain = FusedChain([tfb.Exp(), ActNorm((3,))], event_shape=(3,))
    >>> x = chain.forward(tf.zeros((2, 3)))
    """

    _TF_MODULE_IGNORED_PROPERTIES = base.FusedBijector._TF_MODULE_IGNORED_PROPERTIES | {"_folded"}

    def __init__(self, bijectors, event_shape, name="fused_chain"):
        parameters = dict(locals())
        if not bijectors:
            raise ValueError("FusedChain: `bijectors` is empty; wanted at least one.")
        for bijector in bijectors:
            if not isinstance(bijector, tfb.Bijector):
                raise ValueError(f"FusedChain: `bijectors` holds {bijector!r}; wanted `tfb.Bijector`s.")
        self.bijectors = list(bijectors)
        shape = tf.TensorShape(event_shape)
        for bijector in self.bijectors:
            shape = bijector.inverse_event_shape(shape)
        super().__init__(event_shape, shape, parameters=parameters, name=name)
        self._folded = folded(self.bijectors)
        self.is_exact = all(getattr(bijector, "is_exact", True) for bijector in self.bijectors)

    def _forward_and_log_det(self, z, training=False):
        x, log_det = base.chain_forward_and_log_det(self._folded, z, self._latent_shape.rank, training)
        return x, _to_batch(log_det, z, self._latent_shape.rank)

    def _inverse_and_log_det(self, x, training=False):
        z, log_det = base.chain_inverse_and_log_det(self._folded, x, self._event_shape.rank, training)
        return z, _to_batch(log_det, x, self._event_shape.rank)

    def _pull_back(self, z, dz, dlog_det, training=False):
        dweights, event_ndims = {}, self._latent_shape.rank
        for bijector in reversed(self._folded):
            z, dz, more = base.pull_back(bijector, z, dz, dlog_det, event_ndims, training)
            for i, dweight in more.items():  # bijectors may share a network
                both = [part for part in (dweights.get(i), dweight) if part is not None]
                dweights[i] = tf.add_n(both) if both else None
            event_ndims = bijector.forward_event_ndims(event_ndims)
        return z, dz, dweights

    def adapt(self, x):
        for bijector in self.bijectors:
            x = base.adapt(bijector, x)
        return x

    def is_adapted(self):
        return all(map(base.is_adapted, self.bijectors))


def _to_batch(log_det, value, event_ndims):
    """Stock bijectors give a constant log-det without the batch's axes."""
    if log_det.shape.rank == value.shape.rank - event_ndims:
        return log_det
    return tf.broadcast_to(log_det, tf.shape(value)[: tf.rank(value) - event_ndims])
