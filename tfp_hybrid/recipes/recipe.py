"""`Recipe`: the model for a data set and its training settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import keras
import tensorflow_probability as tfp

from tfp_hybrid import heads
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.models import HybridModel
from tfp_hybrid.penalties import Penalty

if TYPE_CHECKING:  # importing it would import tensorflow_datasets
    from tfp_hybrid.datasets import Dataset

tfb = tfp.bijectors
tfd = tfp.distributions


def head_for(dataset: Dataset) -> heads.Head:
    """Returns the default head: softmax regression for classes, a heteroscedastic Normal for numbers."""
    return heads.Categorical(dataset.num_classes) if dataset.num_classes else heads.HeteroscedasticNormal()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The model and the training settings for one data set.

    Attributes:
      flow: A function that builds the flow from the `Dataset`.
      generative_weight: lambda, the weight of log p(x) in nats.
      epochs: Number of epochs.
      batch_size: Batch size.
      learning_rate: Peak learning rate of a cosine schedule with a short warm-up.
      augment: A function `(inputs, seed=...) -> inputs` that augments a batch; or None.
      outliers: Names of the out-of-distribution sets in the report.
      head: A function that builds the head from the `Dataset`.
      latent: A function that builds p(z) from the `Dataset`; None for a standard normal.
      clipnorm: Upper bound on the norm of each weight's gradient.
      penalties: A function that builds the model's penalties.
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
    penalties: Callable[[], list[Penalty]] = list

    def model(self, dataset: Dataset, generative_weight: float) -> HybridModel:
        """Builds an untrained model.

        Args:
          dataset: The data set.
          generative_weight: lambda, the weight of log p(x) in nats.
        """
        latent = None if self.latent is None else self.latent(dataset)
        model = HybridModel(
            flow_distribution(self.flow(dataset), latent),
            self.head(dataset),
            generative_weight,
            missing_label=dataset.missing_label,
            penalties=self.penalties(),
        )
        model.feature_names = dataset.feature_names
        return model


def schedule(learning_rate: float, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a linear warm-up over 5 % of the steps, at most 100, followed by a cosine decay to 2 % of the peak.

    Args:
      learning_rate: Peak learning rate.
      steps: Number of training steps.
    """
    warmup = max(1, min(100, steps // 20))
    return keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warmup), alpha=0.02, warmup_target=learning_rate, warmup_steps=warmup
    )


def optimizer_for(learning_rate: float, steps: int, clipnorm: float = 50.0) -> keras.optimizers.Optimizer:
    """Returns Adam with a learning rate from `schedule` and clipped gradients.

    Args:
      learning_rate: Peak learning rate.
      steps: Number of training steps.
      clipnorm: Upper bound on the norm of each weight's gradient.
    """
    return keras.optimizers.Adam(schedule(learning_rate, steps), clipnorm=clipnorm)
