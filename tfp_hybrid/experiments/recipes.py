"""For each data set: the model that `tfp-hybrid train` builds, and how it trains it."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow_probability as tfp

from tfp_hybrid import bijectors, heads, networks
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.experiments.augmentation import random_affine
from tfp_hybrid.experiments.flight_times import FlightTimes
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.hybrid import HybridModel

tfb = tfp.bijectors
tfd = tfp.distributions


def head_for(dataset: Dataset) -> heads.Head:
    """Softmax regression for classes, a heteroscedastic Normal for numbers."""
    return heads.Categorical(dataset.num_classes) if dataset.num_classes else heads.HeteroscedasticNormal()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Defaults for one data set.

    Attributes:
      flow: makes the flow from the `Dataset`.
      generative_weight: lambda, on log p(x) in nats.
      epochs, batch_size: of training.
      learning_rate: peak of a cosine schedule with a short warm-up.
      augment: a function of a batch of inputs, and a `seed` that fixes its random numbers; or None.
      outliers: names of the out-of-distribution sets to report on.
      head: makes the head from the `Dataset`.
      latent: makes p(z) from the `Dataset`; None for a standard normal.
      clipnorm: bound on the norm of each weight's gradient.
    """

    flow: Callable[[Dataset], tfb.Bijector]
    generative_weight: float
    epochs: int
    batch_size: int
    learning_rate: float
    augment: Callable | None
    outliers: tuple[str, ...]
    head: Callable[[Dataset], heads.Head] = head_for
    latent: Callable[[Dataset], tfd.Distribution] | None = None
    clipnorm: float = 50.0

    def model(self, dataset: Dataset, generative_weight: float) -> HybridModel:
        """The untrained model."""
        latent = None if self.latent is None else self.latent(dataset)
        model = HybridModel(flow_distribution(self.flow(dataset), latent), self.head(dataset), generative_weight)
        model.feature_names = dataset.feature_names
        return model


def recipe_for(dataset: Dataset) -> Recipe:
    """The recipe of a data set of `tfp_hybrid.datasets`."""
    return _RECIPES[dataset.name]


def schedule(learning_rate: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A linear warm-up over 5 % of the steps, at most 100, then a cosine decay to 2 % of the rate."""
    warmup = max(1, min(100, steps // 20))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.02, warmup_target=learning_rate, warmup_steps=warmup
    )


def optimizer_for(learning_rate: float, steps: int, clipnorm: float = 50.0) -> keras.optimizers.Optimizer:
    """Adam with that schedule, and a bound on the norm of each weight's gradient."""
    return keras.optimizers.Adam(schedule(learning_rate, steps), clipnorm=clipnorm)


def _glow(dataset, **options):
    return bijectors.Glow(
        dataset.test[0].shape[1:], levels=2, quantization_levels=dataset.quantization_levels, **options
    )


def _flights_flow(dataset, couplings=8, hidden_units=(192, 192), dropout=0.1, log_scale_bound=0.5):
    """A RealNVP with an invertible linear map before each coupling, so that every attribute meets every other.

    The log-scales' bound is a tight one: with a wider one the couplings' scales, one upon the other, can take a flight
    with an unheard-of attribute so far out in z that its expected delay is weeks.
    """

    def step():
        conditioner = functools.partial(networks.MLP, hidden_units=hidden_units, dropout=dropout)
        parts = [
            bijectors.ActNorm((8,)),
            bijectors.InvertibleLinear((8,)),
            bijectors.AffineCoupling((8,), conditioner=conditioner, log_scale_bound=log_scale_bound),
        ]
        return bijectors.FusedChain(parts, (8,), name="step")

    # All eight attributes are whole numbers: without dequantization their density would have no bound.
    parts = [bijectors.Dequantize((8,), 10_000), FlightTimes(), bijectors.Steps(step, couplings, (8,))]
    return bijectors.FusedChain(parts, (8,))


def _one_dimensional_flow(dataset):
    """One dimension cannot be coupled, but bent by a spline."""
    return bijectors.FusedChain([bijectors.ActNorm((1,)), bijectors.Spline((1,))], (1,))


def _one_dimensional_latent(dataset):
    """The response's mean is linear in z, which fixes z up to an affine map; so p(z) has to bend to fit p(x)."""
    return flow_distribution(bijectors.Spline((1,)))


_DIGITS = Recipe(
    flow=functools.partial(
        _glow, steps=6, conditioner=functools.partial(networks.ConvNet, hidden_units=64, dropout=0.1)
    ),
    generative_weight=1 / 64,
    epochs=200,
    batch_size=64,
    learning_rate=2e-3,
    augment=functools.partial(random_affine, levels=17),
    outliers=("noise", "inverted"),
)
_IMAGES = Recipe(
    flow=functools.partial(_glow, steps=8, hidden_units=128),
    generative_weight=0.3 / 784,
    epochs=6,
    batch_size=32,
    learning_rate=2e-3,
    augment=functools.partial(random_affine, levels=256, fraction=0.5, shift=2.0),
    outliers=("noise", "inverted"),
)
_FLIGHTS = Recipe(
    flow=_flights_flow,
    generative_weight=0.001,
    epochs=10,
    batch_size=1024,
    learning_rate=2e-3,
    augment=None,
    outliers=("noise", "shuffled"),
    clipnorm=5.0,
)
_SIMULATION = Recipe(
    flow=_one_dimensional_flow,
    generative_weight=0.1,
    epochs=100,
    batch_size=50,
    learning_rate=1e-2,
    augment=None,
    outliers=("noise",),
    latent=_one_dimensional_latent,
)
_RECIPES = {
    "digits": _DIGITS,
    "fashion_mnist": _IMAGES,
    "flights": _FLIGHTS,
    "mnist": _IMAGES,
    "simulation": _SIMULATION,
}
NAMES = tuple(_RECIPES)
