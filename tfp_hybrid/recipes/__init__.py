"""Recipes: the models that `tfp-hybrid train` builds for each data set, and their training settings.

To add a data set, write a loader in `tfp_hybrid.datasets`, a file with a `RECIPE` here, and add an entry to `_RECIPES`
below. This package imports `tfp_hybrid.datasets` only for type checkers, so that `import tfp_hybrid` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfp_hybrid.recipes import digits, flights, images, simulation
from tfp_hybrid.recipes.flight_times import FlightTimes
from tfp_hybrid.recipes.recipe import Recipe, optimizer_for, schedule

if TYPE_CHECKING:
    from tfp_hybrid.datasets import Dataset

_RECIPES = {
    "digits": digits.RECIPE,
    "fashion_mnist": images.RECIPE,
    "flights": flights.RECIPE,
    "mnist": images.RECIPE,
    "simulation": simulation.RECIPE,
}
NAMES = tuple(_RECIPES)

__all__ = ["NAMES", "FlightTimes", "Recipe", "optimizer_for", "recipe_for", "schedule"]


def recipe_for(dataset: Dataset) -> Recipe:
    """Returns the recipe for a data set of `tfp_hybrid.datasets`."""
    return _RECIPES[dataset.name]
