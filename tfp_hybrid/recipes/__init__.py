"""Recipes: the models that `tfp-hybrid train` builds for each data set, and their training settings.

To add a data set, write a loader in `tfp_hybrid.datasets`, name it in `datasets/loading.py`, and write a file here with
a `RECIPE` and the names of the `DATASETS` that it is for. This package imports `tfp_hybrid.datasets` only for type
checkers, so that `import tfp_hybrid` stays fast.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from tfp_hybrid.recipes.augmentation import RandomAffine
from tfp_hybrid.recipes.few_labels import few_labels
from tfp_hybrid.recipes.flight_times import FlightTimes
from tfp_hybrid.recipes.recipe import Recipe, optimizer_for, schedule

if TYPE_CHECKING:
    from tfp_hybrid.datasets import Dataset

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
_RECIPES = {name: module.RECIPE for module in _MODULES for name in getattr(module, "DATASETS", ())}
NAMES = tuple(sorted(_RECIPES))

__all__ = ["NAMES", "FlightTimes", "RandomAffine", "Recipe", "few_labels", "optimizer_for", "recipe_for", "schedule"]


def recipe_for(dataset: Dataset) -> Recipe:
    """Returns the recipe for a data set of `tfp_hybrid.datasets`."""
    return _RECIPES[dataset.name]
