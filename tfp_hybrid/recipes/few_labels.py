"""`few_labels`: a recipe for a data set of which few rows have a label."""

import dataclasses
import functools

from tfp_hybrid.penalties import Consistency, Penalty
from tfp_hybrid.recipes.augmentation import RandomAffine
from tfp_hybrid.recipes.recipe import Recipe


def few_labels(recipe: Recipe) -> Recipe:
    """Returns the recipe for a data set of `datasets.hide_labels`.

    Half of each batch has labels, so an epoch has about twice as many steps, and there are half as many epochs. Of
    images, `penalties.Consistency` spreads the labels under the augmentation of the recipe.
    """
    changes = {"epochs": max(1, recipe.epochs // 2)}
    if recipe.augment is not None:  # the penalty augments the images of a step
        changes |= {"augment": None, "penalties": functools.partial(_consistency, recipe.augment)}
    return dataclasses.replace(recipe, **changes)


def _consistency(augment: RandomAffine) -> list[Penalty]:
    return [Consistency(augment, augment.stronger(1.5))]
