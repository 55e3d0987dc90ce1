"""`Transformer`, the base class of the scalar bijectors that couplings apply to each transformed entry."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfp_hybrid import registry


@dataclasses.dataclass(frozen=True)
class Transformer:
    """A monotone map of the real line for each entry, with raw parameters that may be any real numbers.

    To write a transformer, write a subclass that is a frozen dataclass, with its settings as fields, set
    `num_parameters`, and write `forward` and `inverse`. Raw parameters of zero must be the identity map: couplings
    start there, and entries that a checkerboard mask passes through stay there. A transformer is saved by its class and
    fields.

    Attributes:
      num_parameters: The number of raw parameters for each transformed entry.
    """

    num_parameters = 1

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.register(cls)

    def entries(self, size: int) -> np.ndarray:
        """Which of the `size` entries on the last axis each raw parameter belongs to, `(num_parameters * size,)`."""
        return np.repeat(np.arange(size), self.num_parameters)

    def forward(self, z, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps z to x.

        Args:
          z: `batch_shape + (..., d)`, an event of rank `event_ndims`.
          raw: `batch_shape + (..., num_parameters * d)`, in whatever order the transformer reads them.
          event_ndims: The rank of an event.

        Returns:
          x, of the shape of z, and `log|det dx/dz|` in nats, summed over the event: `batch_shape`.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def inverse(self, x, raw, event_ndims: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Maps x to z, the direction of density evaluation, and returns z and `log|det dz/dx|`; see `forward`."""
        raise NotImplementedError(f"{type(self).__name__}.inverse")
