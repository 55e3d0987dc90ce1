"""The recipe of MNIST and FashionMNIST: a Glow."""

import functools

from tfp_hybrid import bijectors
from tfp_hybrid.recipes.augmentation import random_affine
from tfp_hybrid.recipes.recipe import Recipe


def glow(dataset, **options) -> bijectors.Glow:
    """A Glow of two levels for the images of a `Dataset`; `options` are those of `bijectors.Glow`."""
    return bijectors.Glow(
        dataset.test[0].shape[1:], levels=2, quantization_levels=dataset.quantization_levels, **options
    )


RECIPE = Recipe(
    flow=functools.partial(glow, steps=8, hidden_units=128),
    generative_weight=0.3 / 784,
    epochs=6,
    batch_size=32,
    learning_rate=2e-3,
    augment=functools.partial(random_affine, levels=256, fraction=0.5, shift=2.0),
    outliers=("noise", "inverted"),
)
