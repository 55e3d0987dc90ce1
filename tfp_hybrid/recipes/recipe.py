"""What a recipe is: the model of a data set, and the settings of its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import tensorflow_probability as tfp

from tfp_hybrid import heads
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.models import HybridModel

if TYPE_CHECKING:  # importing it takes tensorflow_datasets
    from tfp_hybrid.datasets import Dataset

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
      epochs: passes over the training rows.
      batch_size: rows of a batch.
      learning_rate: peak of a cosine schedule with a short warm-up.
      augment: a function of a batch of inputs and a `seed` that determines its random numbers; or None.
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


def schedule(learning_rate: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """A linear warm-up over 5 % of the steps, at most 100, then a cosine decay to 2 % of the rate."""
    warmup = max(1, min(100, steps // 20))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.02, warmup_target=learning_rate, warmup_steps=warmup
    )


def optimizer_for(learning_rate: float, steps: int, clipnorm: float = 50.0) -> keras.optimizers.Optimizer:
    """Adam with that schedule, and a bound on the norm of each weight's gradient."""
    return keras.optimizers.Adam(schedule(learning_rate, steps), clipnorm=clipnorm)
