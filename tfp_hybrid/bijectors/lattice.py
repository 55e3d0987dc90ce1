"""`Lattice`: integers as multiples of a power of two, at the beginning of an integer flow."""

import tensorflow as tf

from tfp_hybrid.arguments import check_count
from tfp_hybrid.bijectors.base import FusedBijector

LATTICE_RANGE = 32
"""A bound of what `Lattice` returns: networks and heads should see numbers of a common size."""


class Lattice(FusedBijector):
    """Maps integers 0 .. L-1 to multiples of a step in [0, 32), exactly; up to 32 levels stay integers.

        inverse:  z = step * x,  step = min(1, 32 / 2^ceil(log2 L))         forward:  x = z / step, clipped to 0 .. L-1

    Both sides are discrete sets, so there is no Jacobian: the log-det is 0, and log p(x) is the log probability of
    integers, where that of `Dequantize` is a density. Draws are clipped, so that they are data.

    Args:
      event_shape: The shape of one data point.
      quantization_levels: The number L of integer values, 256 for 8-bit images.
      dtype: The dtype of z.
      name: The prefix of the names of the ops.

    Attributes:
      step: The step, a power of two.

    Raises:
      ValueError: If `quantization_levels` is not a whole number >= 2.
    """

    is_exact = False

    def __init__(
        self,
        event_shape: tuple[int, ...],
        quantization_levels: int = 256,
        dtype: str = "float32",
        name: str = "lattice",
    ):
        parameters = dict(locals())
        self.step = lattice_step(quantization_levels, "Lattice")
        super().__init__(event_shape, parameters=parameters, name=name)
        self.quantization_levels = quantization_levels
        self._float = tf.as_dtype(dtype)

    def _inverse_dtype(self, dtype, **kwargs):
        return self._float

    def _forward_dtype(self, dtype, **kwargs):
        return self._float

    def _forward_and_log_det(self, z, training=False):
        x = tf.clip_by_value(tf.round(z / self.step), 0, self.quantization_levels - 1)
        return x, self.same_log_det(tf.zeros((), z.dtype), z)

    def _inverse_and_log_det(self, x, training=False):
        return self.step * tf.cast(x, self._float), self.same_log_det(tf.zeros((), self._float), x)


def lattice_step(quantization_levels: int, owner: str) -> float:
    """Returns the step of `Lattice`.

    Raises:
      ValueError: If `quantization_levels` is not a whole number >= 2; `owner` begins the message.
    """
    check_count(quantization_levels, f"{owner}: `quantization_levels`", least=2)
    return min(1.0, LATTICE_RANGE / 2.0 ** (int(quantization_levels) - 1).bit_length())
