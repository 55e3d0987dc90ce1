"""Recipes: for each data set, the model that `tfp-hybrid train` builds and how it trains it.

A new data set is a loader in `tfp_hybrid.datasets`, a file with a `RECIPE` here, and a line below. Nothing here imports
`tfp_hybrid.datasets` (except for type checkers), so that `import tfp_hybrid` can import this package cheaply.
"""

from tfp_hybrid.recipes import digits, flights, images, simulation
from tfp_hybrid.recipes.flight_times import FlightTimes
from tfp_hybrid.recipes.recipe import Recipe, optimizer_for, schedule

_RECIPES = {
    "digits": digits.RECIPE,
    "fashion_mnist": images.RECIPE,
    "flights": flights.RECIPE,
    "mnist": images.RECIPE,
    "simulation": simulation.RECIPE,
}
NAMES = tuple(_RECIPES)

__all__ = ["NAMES", "FlightTimes", "Recipe", "optimizer_for", "recipe_for", "schedule"]


def recipe_for(dataset) -> Recipe:
    """The recipe of a `Dataset` of `tfp_hybrid.datasets`."""
    return _RECIPES[dataset.name]
