"""The recipe for scikit-learn's 8x8 digits: a Glow whose conditioners have dropout, because there are few images."""

import functools

from tfp_hybrid import networks
from tfp_hybrid.recipes.augmentation import RandomAffine
from tfp_hybrid.recipes.images import glow
from tfp_hybrid.recipes.recipe import Recipe

DATASETS = ("digits",)
RECIPE = Recipe(
    flow=functools.partial(
        glow, steps=6, conditioner=functools.partial(networks.ConvNet, hidden_units=64, dropout=0.1)
    ),
    generative_weight=1 / 64,
    epochs=200,
    batch_size=64,
    learning_rate=2e-3,
    augment=RandomAffine(levels=17),
    outliers=("noise", "inverted"),
)
