"""`default_score`: the score that is used unless another one is named."""

from tfp_hybrid.models import DensityModel
from tfp_hybrid.uncertainty.scores.combination import Combined
from tfp_hybrid.uncertainty.scores.density_of_states import DensityOfStates
from tfp_hybrid.uncertainty.scores.nearest import KNearest

_NUMBERS = 4_000_000  # that are kept of latents, at most
_ROWS = 5000


def default_score(model: DensityModel) -> Combined:
    """Returns three looks at an input, combined by Simes' method, to be fitted to held-out inputs.

    Are its density, its latent norms, its complexity and its energy unusual together (`DensityOfStates`)? Are they, for
    its predicted class? Is its latent far from all latents (`KNearest`)? Each of them is blind where another one sees.

    Args:
      model: A trained `HybridModel` or `DensityModel`; the second question is for classifiers of one label only.
    """
    size = model.distribution.distribution.event_shape.num_elements()
    given_class = DensityOfStates(given_class=True)
    looks = [DensityOfStates(), KNearest(rows=max(100, min(_ROWS, _NUMBERS // size)))]
    return Combined(looks + ([given_class] if given_class.applies(model) else []))
