"""The recipe for the simulation: it has a single input feature, so splines replace the couplings."""

from tfp_hybrid import bijectors
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.recipes.recipe import Recipe


def _flow(dataset):
    """Builds a spline, because a single dimension cannot be split for a coupling."""
    return bijectors.FusedChain([bijectors.ActNorm((1,)), bijectors.Spline((1,))], (1,))


def _latent(dataset):
    """Builds a flexible p(z): the mean of y is linear in z, so only p(z) can adapt to p(x)."""
    return flow_distribution(bijectors.Spline((1,)))


DATASETS = ("simulation",)
RECIPE = Recipe(
    flow=_flow,
    generative_weight=0.1,
    epochs=100,
    batch_size=50,
    learning_rate=1e-2,
    augment=None,
    outliers=("noise",),
    latent=_latent,
)
