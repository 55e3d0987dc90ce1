"""The recipe for MNIST and FashionMNIST: a Glow."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tfp_hybrid import bijectors
from tfp_hybrid.recipes.augmentation import random_affine
from tfp_hybrid.recipes.recipe import Recipe

if TYPE_CHECKING:
    from tfp_hybrid.datasets import Dataset


def glow(dataset: Dataset, **options) -> bijectors.Glow:
    """Builds a Glow of two levels for the images of a data set.

    Args:
      dataset: The data set.
      **options: Passed to `bijectors.Glow`.
    """
    return bijectors.Glow(
        dataset.test[0].shape[1:], levels=2, quantization_levels=dataset.quantization_levels, **options
    )


DATASETS = ("fashion_mnist", "mnist")
RECIPE = Recipe(
    flow=functools.partial(glow, steps=8, hidden_units=128),
    generative_weight=0.3 / 784,
    epochs=6,
    batch_size=32,
    learning_rate=2e-3,
    augment=functools.partial(random_affine, levels=256, fraction=0.5, shift=2.0),
    outliers=("noise", "inverted"),
)
