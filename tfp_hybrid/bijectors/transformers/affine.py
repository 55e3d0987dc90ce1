"""`Affine`, the transformer of affine couplings."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfp_hybrid import _compat
from tfp_hybrid.bijectors.base import sum_rightmost
from tfp_hybrid.bijectors.masks import split_last
from tfp_hybrid.bijectors.transformers.base import Transformer


@dataclasses.dataclass(frozen=True)
class Affine(Transformer):
    """`x = z exp(s) + t` with a bounded log-scale, `s = B tanh(raw_s / B)`; log|dx/dz| = s.

    The raw parameters are all shifts t, followed by all raw log-scales.

    Args:
      log_scale_bound: The bound B on |s|.

    Raises:
      ValueError: If the bound is not positive.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", eq. 4-8.
    """

    log_scale_bound: float = 2.0
    num_parameters = 2

    def __post_init__(self):
        if not self.log_scale_bound > 0:
            raise ValueError(f"Affine: `log_scale_bound` is {self.log_scale_bound}; wanted a positive number.")

    def entries(self, size: int) -> np.ndarray:
        return np.tile(np.arange(size), 2)

    def forward(self, z, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        shift, raw_log_scale = _halves(raw)
        log_scale = self.log_scale_bound * tf.tanh(raw_log_scale / self.log_scale_bound)
        return z * tf.exp(log_scale) + shift, sum_rightmost(log_scale, event_ndims)

    def inverse(self, x, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps x to z; a custom gradient takes half of the operations that autodiff would use."""
        bound = self.log_scale_bound

        @_compat.custom_gradient
        def function(x, raw):
            shift, raw_log_scale = _halves(raw)
            bounded = tf.tanh(raw_log_scale / bound)
            factor = tf.exp(-bound * bounded)
            z = (x - shift) * factor

            def gradient(dz, dlog_det):
                dx = dz * factor
                dlog_scale = -dz * z - tf.reshape(dlog_det, tf.concat([tf.shape(dlog_det), [1] * event_ndims], 0))
                return dx, tf.concat([-dx, dlog_scale * (1 - tf.square(bounded))], axis=-1)

            return (z, -bound * sum_rightmost(bounded, event_ndims)), gradient

        return function(x, raw)


def _halves(raw):
    return split_last(raw, raw.shape[-1] // 2)
