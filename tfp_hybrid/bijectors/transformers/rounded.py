"""`Rounded`, the transformer of couplings of integers."""

import dataclasses
import math
import numbers

import tensorflow as tf

from tfp_hybrid.bijectors.transformers.additive import Additive


@dataclasses.dataclass(frozen=True)
class Rounded(Additive):
    """`x = z + step * round(raw / step)`: a bijection of the multiples of `step`, such as the integers.

    It is exact in floating point, since the step is a power of two, for values below 2^24 steps in float32. Being a map
    of a discrete set, it has no Jacobian: the log-det is 0, and P(x) = P(z). The gradient passes the rounding as if it
    were not there.

    Attributes:
      step: The step, a power of two.

    Raises:
      ValueError: If `step` is not a power of two.

    References:
      Hoogeboom, Peters, van den Berg and Welling 2019, "Integer Discrete Flows and Lossless Compression", section 3.
    """

    step: float = 1.0

    def __post_init__(self):
        if not isinstance(self.step, numbers.Real) or math.frexp(self.step)[0] != 0.5:
            raise ValueError(f"Rounded: `step` is {self.step!r}; wanted a power of two.")

    def forward(self, z, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        return super().forward(z, self._rounded(raw), event_ndims)

    def inverse(self, x, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        return super().inverse(x, self._rounded(raw), event_ndims)

    def _rounded(self, raw):
        # What is added is zero, exactly, and has the gradient of `raw`.
        return tf.stop_gradient(self.step * tf.round(raw / self.step)) + (raw - tf.stop_gradient(raw))
