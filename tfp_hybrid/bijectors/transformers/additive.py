"""`Additive`, the transformer of additive couplings."""

import dataclasses

import tensorflow as tf

from tfp_hybrid.bijectors.transformers.base import Transformer


@dataclasses.dataclass(frozen=True)
class Additive(Transformer):
    """`x = z + raw`, which preserves volume: log|dx/dz| = 0.

    References:
      Dinh, Krueger and Bengio 2015, "NICE".
    """

    def forward(self, z, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        return z + raw, _no_log_det(z, event_ndims)

    def inverse(self, x, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        return x - raw, _no_log_det(x, event_ndims)


def _no_log_det(value, event_ndims):
    return tf.zeros(tf.shape(value)[: tf.rank(value) - event_ndims], value.dtype)
