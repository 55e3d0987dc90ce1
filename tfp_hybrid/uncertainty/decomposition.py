"""`decompose`: how much of the uncertainty of p(y|x) is noise of y, and how much more rows would take away."""

from collections.abc import Sequence

import numpy as np

from tfp_hybrid.heads.decomposition import Decomposition, of_latents
from tfp_hybrid.models import HybridModel, data_sets
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import check_head


def decompose(model: HybridModel | Sequence[HybridModel], x, batch_size: int | None = None) -> Decomposition:
    """Decomposes the uncertainty of p(y|x) into that of y (aleatoric) and that of the model (epistemic).

        classes    H[E p(y|x, B)] = E H[p(y|x, B)] + I[y; B | x]
        numbers    Var[y|x] = E Var[y|x, B] + Var E[y|x, B]

    with B the coefficients of the head, over its posterior. It is exact for a `Normal` head, by quadrature for heads
    with one or two linear predictors, and over fixed quasi-random draws for others.

    Args:
      model: A `HybridModel` whose head has a posterior, from `bayes.fit` or `heads.Variational`; or a list of models of
        the same response, which are then equally probable (each may have a posterior). One model without a posterior
        has no epistemic part.
      x: An array `(n, *input_shape)`, or a `tf.data.Dataset` of batches.
      batch_size: Rows of a batch of an array; 256 if None.

    Raises:
      ValueError: If a model has no head or cannot take x, or if a model of a list has a response of another shape.

    References:
      Depeweg, Hernandez-Lobato, Doshi-Velez and Udluft 2018, "Decomposition of Uncertainty in Bayesian Deep
      Learning"; Houlsby, Huszar, Ghahramani and Lengyel 2011, "Bayesian Active Learning for Classification and
      Preference Learning".
    """
    models = list(model) if isinstance(model, Sequence) else [model]
    if not models:
        raise ValueError("model is an empty list; wanted at least one model.")
    for one in models:
        check_head(one)
        if _response(one.head) != _response(models[0].head):
            raise ValueError(
                f"model: the heads are {_response(models[0].head)} and {_response(one.head)}; wanted models of the "
                "same response."
            )
    if len(models) > 1 and not data_sets.is_array(x):
        raise ValueError(f"x is a {type(x).__name__}; wanted an array, since each of the models reads it.")
    parts = zip(*(encode_batches(one, x, batch_size) for one in models), strict=True)
    found = [of_latents([(one.model.head, one.features) for one in batch]) for batch in parts]
    return Decomposition(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _response(head):
    """What the response of a head is, in words."""
    head = head.unwrapped()
    kind = head.num_classes or type(getattr(head, "family", head)).__name__
    return f"{type(head).__name__} ({kind}) of shape {head.event_shape}"
