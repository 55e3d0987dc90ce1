"""The recipe for flight delays: a RealNVP with invertible linear maps."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tfp_hybrid import bijectors, networks
from tfp_hybrid.recipes.flight_times import FlightTimes
from tfp_hybrid.recipes.recipe import Recipe

if TYPE_CHECKING:
    from tfp_hybrid.datasets import Dataset


def flow(
    dataset: Dataset,
    couplings: int = 8,
    hidden_units: tuple[int, ...] = (192, 192),
    dropout: float = 0.3,
    log_scale_bound: float = 0.5,
) -> bijectors.FusedChain:
    """Builds a RealNVP with an invertible linear map before each coupling, which mixes all attributes.

    The bound of the log-scales is tight. With a wider bound, the scales of successive couplings can multiply such that
    a flight with an extreme attribute has an extreme z and an expected delay of weeks.

    Args:
      dataset: Not used; the flow is the same for all years.
      couplings: Number of couplings.
      hidden_units: Units of each hidden layer of a conditioner.
      dropout: Dropout rate of the conditioners.
      log_scale_bound: Bound of the couplings' log-scales.
    """

    def step():
        conditioner = functools.partial(networks.MLP, hidden_units=hidden_units, dropout=dropout)
        parts = [
            bijectors.ActNorm((8,)),
            bijectors.InvertibleLinear((8,)),
            bijectors.AffineCoupling((8,), conditioner=conditioner, log_scale_bound=log_scale_bound),
        ]
        return bijectors.FusedChain(parts, (8,), name="step")

    # All eight attributes are whole numbers, so their density would be unbounded without dequantization.
    parts = [bijectors.Dequantize((8,), 10_000), FlightTimes(), bijectors.Steps(step, couplings, (8,))]
    return bijectors.FusedChain(parts, (8,))


DATASETS = ("flights",)
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
