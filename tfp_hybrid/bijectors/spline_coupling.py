"""Rational-quadratic spline couplings, for vectors and images."""

from collections.abc import Callable

import keras

from tfp_hybrid.bijectors.coupling import Coupling
from tfp_hybrid.bijectors.transformers import RationalQuadraticSpline


class SplineCoupling(Coupling):
    """One part of x passes through and sets the knots of a monotone spline for each entry of the other part.

        z_a = x_a
        z_b = g(x_b; x_a)         log|det dz/dx| = sum_b log g'(x_b; x_a)

    g is a rational-quadratic spline on [-bound, bound] and the identity outside. It starts as the identity.

    Args:
      event_shape, mask, swap, conditioner, dtype, name, condition_shape: As for `Coupling`.
      bins: The number of pieces of each spline.
      bound: The end of the interval, in the unit of x. Standardize x first, for example with `ActNorm`.

    Raises:
      ValueError: As for `Coupling`, or if there are fewer than two bins or the bound is not positive.

    References:
      Durkan, Bekasov, Murray and Papamakarios 2019, "Neural Spline Flows".
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        mask: str = "channel",
        swap: bool = False,
        bins: int = 8,
        bound: float = 4.0,
        conditioner: Callable | keras.layers.Layer | None = None,
        dtype: str = "float32",
        name: str = "spline_coupling",
        condition_shape: int | tuple[int, ...] | None = None,
    ):
        parameters = dict(locals())
        transformer = RationalQuadraticSpline(bins, bound)
        super().__init__(
            event_shape, transformer, mask, swap, conditioner, dtype, name, condition_shape, parameters=parameters
        )
        self.bins, self.bound = bins, bound
