"""For each data set: the model that `tfp-hybrid train` builds, and how it trains it."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import bijectors, heads, networks
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.experiments.augmentation import random_affine

tfb = tfp.bijectors


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Defaults for one data set.

    Attributes:
      flow: makes the flow from the `Dataset`.
      generative_weight: lambda, on log p(x) in nats.
      epochs, batch_size: of training.
      learning_rate: peak of a cosine schedule with a short warm-up.
      augment: a function of a batch of inputs, or None.
      outliers: names of the out-of-distribution sets to report on.
    """

    flow: Callable[[Dataset], tfb.Bijector]
    generative_weight: float
    epochs: int
    batch_size: int
    learning_rate: float
    augment: Callable | None
    outliers: tuple[str, ...]


def recipe_for(dataset: Dataset) -> Recipe:
    """The recipe of a data set of `tfp_hybrid.datasets`."""
    return _RECIPES[dataset.name]


def head_for(dataset: Dataset) -> heads.Head:
    """Softmax regression for classes, a heteroscedastic Normal for numbers."""
    return heads.Categorical(dataset.num_classes) if dataset.num_classes else heads.HeteroscedasticNormal()


def schedule(learning_rate: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A linear warm-up over 5 % of the steps, at most 100, then a cosine decay to 2 % of the rate."""
    warmup = max(1, min(100, steps // 20))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.02, warmup_target=learning_rate, warmup_steps=warmup
    )


def optimizer_for(learning_rate: float, steps: int) -> keras.optimizers.Optimizer:
    """Adam with that schedule."""
    return keras.optimizers.Adam(schedule(learning_rate, steps), clipnorm=50.0)


def _glow(dataset, **options):
    return bijectors.Glow(
        dataset.test[0].shape[1:], levels=2, quantization_levels=dataset.quantization_levels, **options
    )


def _flights_flow(dataset):
    # All eight attributes are whole numbers: without dequantization their density would have no bound.
    return bijectors.RealNVP((8,), couplings=8, hidden_units=(64, 64), quantization_levels=10_000)


def _one_dimensional_flow(dataset):
    """One dimension cannot be coupled: stock scalar bijectors of TFP, with trained parameters."""
    parts = []
    for _ in range(4):
        parts += [
            tfb.Shift(tf.Variable([0.0])),
            tfb.Scale(log_scale=tf.Variable([0.0])),
            tfb.SinhArcsinh(
                skewness=tf.Variable([0.0]),
                tailweight=tfp.util.TransformedVariable([1.0], tfb.Softplus()),
            ),
        ]
    return bijectors.FusedChain([bijectors.ActNorm((1,)), *parts], (1,))


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
    generative_weight=0.1,
    epochs=3,
    batch_size=1024,
    learning_rate=2e-3,
    augment=None,
    outliers=("noise", "shuffled"),
)
_SIMULATION = Recipe(
    flow=_one_dimensional_flow,
    generative_weight=0.1,
    epochs=100,
    batch_size=50,
    learning_rate=1e-2,
    augment=None,
    outliers=("noise",),
)
_RECIPES = {
    "digits": _DIGITS,
    "fashion_mnist": _IMAGES,
    "flights": _FLIGHTS,
    "mnist": _IMAGES,
    "simulation": _SIMULATION,
}
NAMES = tuple(_RECIPES)
