"""The recipe of the flight delays: a RealNVP with invertible linear maps."""

import functools

from tfp_hybrid import bijectors, networks
from tfp_hybrid.recipes.flight_times import FlightTimes
from tfp_hybrid.recipes.recipe import Recipe


def flow(
    dataset,
    couplings: int = 8,
    hidden_units: tuple[int, ...] = (192, 192),
    dropout: float = 0.1,
    log_scale_bound: float = 0.5,
) -> bijectors.FusedChain:
    """A RealNVP with an invertible linear map before each coupling, so that every attribute meets every other.

    The bound of the log-scales is tight: with a wider one, the scales of successive couplings can multiply until a
    flight with an extreme attribute lands so far out in z that its expected delay is weeks.

    Args:
      dataset: not used; the flow is the same for all years.
      couplings: number of couplings.
      hidden_units: units of each hidden layer of a conditioner.
      dropout: dropout rate of the conditioners.
      log_scale_bound: bound of a coupling's log-scales.
    """

    def step():
        conditioner = functools.partial(networks.MLP, hidden_units=hidden_units, dropout=dropout)
        parts = [
            bijectors.ActNorm((8,)),
            bijectors.InvertibleLinear((8,)),
            bijectors.AffineCoupling((8,), conditioner=conditioner, log_scale_bound=log_scale_bound),
        ]
        return bijectors.FusedChain(parts, (8,), name="step")

    # All eight attributes are whole numbers: without dequantization their density would be unbounded.
    parts = [bijectors.Dequantize((8,), 10_000), FlightTimes(), bijectors.Steps(step, couplings, (8,))]
    return bijectors.FusedChain(parts, (8,))


RECIPE = Recipe(
    flow=flow,
    generative_weight=0.001,
    epochs=10,
    batch_size=1024,
    learning_rate=2e-3,
    augment=None,
    outliers=("noise", "shuffled"),
    clipnorm=5.0,
)
