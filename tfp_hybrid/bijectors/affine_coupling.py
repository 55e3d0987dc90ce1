"""Affine and additive couplings, for vectors and images."""

from collections.abc import Callable

import keras

from tfp_hybrid.bijectors.coupling import Coupling
from tfp_hybrid.bijectors.transformers import Additive, Affine


class AffineCoupling(Coupling):
    """One part of x passes through and sets the shift t and log-scale s of the other part.

        z_a = x_a
        z_b = (x_b - t(x_a)) * exp(-s(x_a))         log|det dz/dx| = -sum_b s(x_a)_b

    The log-scale is bounded, `s = B tanh(raw / B)`; an additive coupling has s = 0. One conditioner network computes
    t and s together, and is evaluated once for the value and the log-det.

    Args:
      event_shape, mask, swap, conditioner, dtype, name, condition_shape: As for `Coupling`.
      additive: Whether to shift without scaling, as in NICE, which preserves volume.
      log_scale_bound: The bound B on |s|.

    Raises:
      ValueError: As for `Coupling`, or if the bound is not positive.

    References:
      Dinh, Krueger and Bengio 2015, "NICE"; Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using
      Real NVP", eq. 4-8.
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        mask: str = "channel",
        swap: bool = False,
        additive: bool = False,
        conditioner: Callable | keras.layers.Layer | None = None,
        log_scale_bound: float = 2.0,
        dtype: str = "float32",
        name: str = "affine_coupling",
        condition_shape: int | tuple[int, ...] | None = None,
    ):
        parameters = dict(locals())
        affine = Affine(log_scale_bound)
        transformer = Additive() if additive else affine
        super().__init__(
            event_shape, transformer, mask, swap, conditioner, dtype, name, condition_shape, parameters=parameters
        )
        self.additive, self.log_scale_bound = additive, log_scale_bound
