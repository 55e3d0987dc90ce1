"""`default_score`: the score that is used unless another one is named."""

from tfp_hybrid.models import DensityModel
from tfp_hybrid.uncertainty.scores.base import check_model
from tfp_hybrid.uncertainty.scores.combination import Combined
from tfp_hybrid.uncertainty.scores.density_of_states import DensityOfStates
from tfp_hybrid.uncertainty.scores.log_prob import NegativeLogProb
from tfp_hybrid.uncertainty.scores.nearest import KNearest
from tfp_hybrid.uncertainty.scores.response import Energy

_NUMBERS = 1_600_000  # that are kept of latents, at most
_ROWS = 5000


def default_score(model: DensityModel) -> Combined:
    """Returns up to four looks at an input, combined by Simes' method, to be fitted to held-out inputs.

    Are its density, its latent norms, its complexity and its energy unusual together (`DensityOfStates`)? Are they, for
    its predicted class? Has its latent another direction than all latents (`KNearest`)? Does it activate no class
    (`Energy`)? Each of them is blind where another one sees.

    With an encoder, the looks are: Are the features unlikely (`NegativeLogProb`)? Have they another direction than all
    features, or has their latent (`KNearest`)? Do they activate no class?

    Args:
      model: A trained `HybridModel` or `DensityModel`. Questions about the predicted class are for classifiers of one
        label only, the energy is for those by `heads.Categorical`.

    Raises:
      ValueError: If `model` is neither.
    """
    check_model(model)
    if model.encoder is None:
        looks = [DensityOfStates(), _neighbours(model, "z"), DensityOfStates(given_class=True), Energy()]
    else:
        looks = [NegativeLogProb(), _neighbours(model, "z"), _neighbours(model, "x"), Energy()]
    return Combined([look for look in looks if look is not None and look.applies(model)])


def _neighbours(model, of):
    size = model.distribution.event_shape.num_elements()
    if size == 1:
        return None  # a number has no direction
    return KNearest(rows=max(100, min(_ROWS, _NUMBERS // size)), of=of, normalize=True)
