"""`Transformer`, the base class of what a coupling does to each transformed entry."""

import dataclasses

from tfp_hybrid import registry


@dataclasses.dataclass(frozen=True)
class Transformer:
    """A monotone map of the real line for each entry, given by raw parameters that may be any real numbers.

    To write a transformer, make a frozen dataclass of this, whose fields are its settings, set `num_parameters`, and
    write `forward` and `inverse`. Raw parameters of zero must be the identity map: a coupling starts there, and entries
    that a checkerboard mask passes through stay there. A coupling with it is saved by its class and fields.

    Attributes:
      num_parameters: number of raw parameters for each transformed entry.
    """

    num_parameters = 1

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.register(cls)

    def forward(self, z, raw, event_ndims: int):
        """Maps z to x.

        Args:
          z: `batch_shape + (..., d)`, an event of rank `event_ndims`.
          raw: `batch_shape + (..., num_parameters * d)`, in whatever order the transformer reads them.
          event_ndims: rank of an event.

        Returns:
          x, of z's shape, and `log|det dx/dz|` in nats, summed over the event: `batch_shape`.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def inverse(self, x, raw, event_ndims: int):
        """Maps x to z, the direction of density evaluation; returns z and `log|det dz/dx|`. See `forward`."""
        raise NotImplementedError(f"{type(self).__name__}.inverse")
