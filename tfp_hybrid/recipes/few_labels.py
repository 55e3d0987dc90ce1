"""`few_labels`: a recipe for a data set of which few rows have a label."""

import dataclasses
import functools

from tfp_hybrid.penalties import Consistency, Penalty
from tfp_hybrid.recipes.augmentation import RandomAffine
from tfp_hybrid.recipes.recipe import Recipe

_MORE = 2.0  # lambda beside the penalty, whose weight adds to that of p(y|x)


def few_labels(recipe: Recipe) -> Recipe:
    """Returns the recipe for a data set of `datasets.hide_labels`.

    Half of each batch has labels, so an epoch has about twice as many steps, and there are half as many epochs. Of
    images, `penalties.Consistency` spreads the labels under the augmentation of the recipe.
    """
    epochs = max(1, recipe.epochs // 2)
    if recipe.augment is None:
        return dataclasses.replace(recipe, epochs=epochs)
    return dataclasses.replace(
        recipe,
        epochs=epochs,
        augment=None,  # the penalty augments the images of a step
        penalties=functools.partial(_consistency, recipe.augment),
        generative_weight=_MORE * recipe.generative_weight,
    )


def _consistency(augment: RandomAffine) -> list[Penalty]:
    return [Consistency(augment, augment.stronger(1.5), mixing=4.0, weight=3.0)]
