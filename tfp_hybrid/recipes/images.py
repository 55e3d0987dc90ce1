"""The recipe for FashionMNIST: a Glow, which the recipes of other images share."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tfp_hybrid import bijectors
from tfp_hybrid.recipes.augmentation import RandomAffine
from tfp_hybrid.recipes.recipe import Recipe

if TYPE_CHECKING:
    from tfp_hybrid.datasets import Dataset


def glow(dataset: Dataset, background: bool = False, **options) -> bijectors.FusedChain:
    """Builds a Glow of two levels for the images of a data set.

    Args:
      dataset: The data set.
      background: Whether the flow begins with `Background`, for images that are mostly empty.
      **options: Passed to `bijectors.Glow`.
    """
    shape, levels = dataset.test[0].shape[1:], dataset.quantization_levels
    if not background:
        return bijectors.Glow(shape, levels=2, quantization_levels=levels, **options)
    rest = bijectors.Glow(shape, levels=2, quantization_levels=None, **options)
    return bijectors.FusedChain([bijectors.Dequantize(shape, levels), bijectors.Background(shape), rest], shape)


DATASETS = ("fashion_mnist",)
RECIPE = Recipe(
    flow=functools.partial(glow, steps=8, hidden_units=128),
    generative_weight=0.3 / 784,
    epochs=6,
    batch_size=32,
    learning_rate=2e-3,
    augment=RandomAffine(levels=256, fraction=0.5, shift=2.0),
    outliers=("noise", "inverted"),
)
