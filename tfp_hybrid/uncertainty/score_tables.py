"""Tables of all scores of a model, and of how well each score detects out-of-distribution inputs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfp_hybrid.bijectors import one_pass
from tfp_hybrid.models import DensityModel
from tfp_hybrid.uncertainty import scores as _scores
from tfp_hybrid.uncertainty.detection import METRICS, detection_metrics
from tfp_hybrid.uncertainty.scores import base

_NO_ROWS = pd.MultiIndex.from_arrays([[], []], names=["set", "score"])


def all_scores(
    model: DensityModel,
    x=None,
    others: Sequence[DensityModel] = (),
    likelihood_ratio: _scores.LikelihoodRatio | None = None,
    gradient_norm: bool = False,
) -> list[_scores.Score]:
    """Returns every score that applies to a model, fitted.

    Args:
      model: A trained `HybridModel` or `DensityModel`.
      x: Held-out in-distribution inputs that were not used in training. None leaves out scores that need them.
      others: More models, trained from other seeds, for `WAIC`. An empty list leaves it out.
      likelihood_ratio: A `LikelihoodRatio` that was fitted to `model`, ideally on its training inputs. None leaves it
        out.
      gradient_norm: Whether to include `GradientNorm`, which costs several passes.

    Raises:
      ValueError: If `likelihood_ratio` is not fitted to `model`.
    """
    base.check_model(model)
    p_x = model.distribution
    levels = len(one_pass.level_sizes(p_x.bijector, p_x.event_shape))
    found = [_scores.NegativeLogProb(), _scores.JointNegativeLogProb(), _scores.LatentNorm()]
    found += [_scores.LevelLogProb()] if levels > 1 else []
    found += [_scores.LeastLikelyPosition(), _scores.ClassNegativeLogProb()]
    found += [_scores.PredictiveEntropy(), _scores.MaxProbability(), _scores.Energy(), _scores.PredictiveVariance()]
    if model.head is not None and model.head.is_integrated:
        found += [_scores.Epistemic(), _scores.Aleatoric()]
    found += [_scores.InputComplexity()] + ([_scores.GradientNorm()] if gradient_norm else [])
    if x is not None:
        found += [
            _scores.Typicality(),
            _scores.ClassTypicality(),
            _scores.LatentNorm(two_sided=True),
            _scores.ComplexityDensity(),
        ]
        found += [_scores.RelativeMahalanobis(), _scores.KNearest(normalize=True), _scores.DensityOfStates()]
        found += [_scores.default_score(model)]
    if likelihood_ratio is not None:
        likelihood_ratio.check_fitted(model)
        found.append(likelihood_ratio)
    if others:
        found.append(_scores.WAIC(list(others)))
    found = [score for score in found if score.applies(model)]
    return [score if score.is_fitted else score.fit(model, x) for score in found]


def score_table(model: DensityModel, x, scores: Sequence[_scores.Score], batch_size: int = 256) -> pd.DataFrame:
    """Computes several scores of each input in one pass.

    Args:
      model: The model that the scores were fitted to.
      x: An array `(n, *event_shape)`, or a `tf.data.Dataset` of batches.
      scores: A list of `Score`s, such as `all_scores(model, x_held_out)`.
      batch_size: The number of rows in a batch of an array.

    Returns:
      A table with a row for each input, and a column for each score, named by its title.

    Raises:
      ValueError: If `scores` is empty or two scores have the same title, or as `Score.score`.
    """
    titles = [score.title for score in scores]
    if not titles or len(set(titles)) < len(titles):
        raise ValueError(f"scores has the titles {titles}; wanted at least one score, and no title twice.")
    values = base.run(scores, model, x, batch_size)
    return pd.DataFrame({score.title: column for score, column in zip(scores, values, strict=True)})


def detection_table(inside: pd.DataFrame, outside: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Measures how well each score distinguishes out-of-distribution sets from in-distribution inputs.

    Args:
      inside: The `score_table` of in-distribution inputs.
      outside: A dictionary from the name of each out-of-distribution set to its `score_table`.

    Returns:
      A row for each set and score, with the columns of `detection.METRICS`, indexed by "set" and "score".
    """
    rows = {
        (name, title): detection_metrics(np.asarray(inside[title]), np.asarray(table[title]))
        for name, table in outside.items()
        for title in inside
    }
    index = pd.MultiIndex.from_tuples(list(rows), names=["set", "score"]) if rows else _NO_ROWS
    return pd.DataFrame(list(rows.values()), index, list(METRICS))
