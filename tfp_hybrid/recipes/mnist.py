"""The recipe for MNIST: a Glow that stretches the background, and softmax regression with uncertain weights."""

import functools

import keras

from tfp_hybrid import heads
from tfp_hybrid.recipes.augmentation import RandomAffine
from tfp_hybrid.recipes.images import glow
from tfp_hybrid.recipes.recipe import Recipe

WEIGHT_STDDEV = 0.135
"""The standard deviation of the softmax weights, and of their prior."""


def head(dataset) -> heads.Categorical:
    """Builds softmax regression with weights from Normal(M, s^2) and the prior Normal(0, s^2) on M.

    The uncertainty lowers the confidence for images with an unusually large z.
    """
    prior = keras.regularizers.L2(1 / (2 * len(dataset.train[0]) * WEIGHT_STDDEV**2))
    return heads.Categorical(dataset.num_classes, weight_stddev=WEIGHT_STDDEV, kernel_regularizer=prior)


DATASETS = ("mnist",)
RECIPE = Recipe(
    flow=functools.partial(glow, background=True, steps=8, hidden_units=64),
    generative_weight=0.15 / 784,
    epochs=12,
    batch_size=64,
    learning_rate=2e-3,
    augment=RandomAffine(levels=256, fraction=0.5, shift=2.0),
    outliers=("noise", "inverted"),
    head=head,
)
