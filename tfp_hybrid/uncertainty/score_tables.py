"""All scores of a model at once, and how well each tells out-of-distribution inputs."""

import numpy as np
import pandas as pd

from tfp_hybrid.uncertainty import scores as _scores
from tfp_hybrid.uncertainty.detection import METRICS, detection_metrics
from tfp_hybrid.uncertainty.input_complexity import InputComplexity
from tfp_hybrid.uncertainty.likelihood_ratio import LikelihoodRatio
from tfp_hybrid.uncertainty.waic import WAIC

_NO_ROWS = pd.MultiIndex.from_arrays([[], []], names=["set", "score"])


def all_scores(model, x=None, others=(), likelihood_ratio: LikelihoodRatio | None = None) -> list[_scores.Score]:
    """Every score that applies to a model, fitted.

    Args:
      model: a trained `HybridModel`.
      x: held-out in-distribution inputs, which training has not seen; None leaves out scores that need them.
      others: more models, trained from other seeds, for `WAIC`; none leaves it out.
      likelihood_ratio: a `LikelihoodRatio` that is fitted to `model`, best on its training inputs; None leaves it out.
    """
    _scores.check_model(model)
    found = [_scores.NegativeLogProb()]
    if x is not None:
        found.append(_scores.Typicality().fit(model, x))
    found += [_scores.JointNegativeLogProb(), _scores.LatentNorm(), _scores.PredictiveEntropy()]
    found += [_scores.MaxProbability(), _scores.PredictiveVariance(), InputComplexity()]
    if likelihood_ratio is not None:
        likelihood_ratio.check_fitted(model)
        found.append(likelihood_ratio)
    if others:
        found.append(WAIC(list(others)))
    return [score for score in found if _applies(score, model)]


def _applies(score, model):
    try:
        score.check_applies(model)
    except ValueError:
        return False
    return True


def score_table(model, x, scores, batch_size: int = 256) -> pd.DataFrame:
    """Scores of each input, from one pass: a row an input, a column a score, by its title.

    Args:
      model: the model the scores were fitted to.
      x: `(n, *event_shape)`, an array, or a `tf.data.Dataset` of batches.
      scores: a list of `Score`s, such as `all_scores(model, x_held_out)`.
      batch_size: rows at a time of an array.
    """
    titles = [score.title for score in scores]
    if not titles or len(set(titles)) < len(titles):
        raise ValueError(f"scores has the titles {titles}; wanted at least one, and none twice.")
    values = _scores.run(scores, model, x, batch_size)
    return pd.DataFrame({score.title: column for score, column in zip(scores, values, strict=True)})


def detection_table(inside: pd.DataFrame, outside: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """How well each score tells each set from in-distribution inputs.

    Args:
      inside: `score_table` of in-distribution inputs.
      outside: from a set's name to its `score_table`.

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
