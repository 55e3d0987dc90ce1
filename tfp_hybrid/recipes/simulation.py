"""The recipe of the simulation: one input feature, so splines in place of couplings."""

from tfp_hybrid import bijectors
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.recipes.recipe import Recipe


def _flow(dataset):
    """A single dimension cannot be split for a coupling; a spline transforms it."""
    return bijectors.FusedChain([bijectors.ActNorm((1,)), bijectors.Spline((1,))], (1,))


def _latent(dataset):
    """The mean of y is linear in z, which fixes z up to an affine map; so p(z) must be flexible to fit p(x)."""
    return flow_distribution(bijectors.Spline((1,)))


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
