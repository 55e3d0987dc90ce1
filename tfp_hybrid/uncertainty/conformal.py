"""Intervals of numbers that hold the response as often as they say, whatever the head, by held-out rows."""

import math

import numpy as np

from tfp_hybrid import arguments
from tfp_hybrid.heads.quantiles import quantile
from tfp_hybrid.models import HybridModel, checks, labels, side_inputs
from tfp_hybrid.uncertainty.regression import cdf
from tfp_hybrid.uncertainty.scores.base import check_head

__all__ = ["conformal_interval", "conformal_scores"]


def conformal_scores(model: HybridModel, x, y, batch_size: int | None = None) -> np.ndarray:
    """Returns how far from the median of p(y|x) each held-out response is, `(n,)`, in probability.

        s_i = |F(y_i | x_i) - 1/2|

    For counts, s is the smallest number for which y is between the quantiles 1/2 - s and 1/2 + s. Where the latent
    overflows, it is 1/2. `conformal_interval` needs nothing else of these rows.

    Args:
      model: A `HybridModel` whose response is one number.
      x: An array `(n, *event_shape)` of rows that were not used in training.
      y: Their responses; rows without one are left out.
      batch_size: Rows of a batch; 256 if None.

    Raises:
      ValueError: If the head is one of classes or vectors, or cannot take y.

    References:
      Chernozhukov, Wüthrich and Zhu 2021, "Distributional conformal prediction", algorithm 2.
    """
    _check(model)
    y = labels.checked(y, model, side_inputs.count(x))
    labels.check_some_known(y, model)
    known = labels.known_rows(y, model)
    p_y, _ = model.predict_distribution(x, batch_size)
    # Where there is no response, that of another row stands.
    below, up_to = cdf(p_y, np.where(known, y, y[known][0]))
    scores = np.maximum(np.maximum(0.5 - up_to, below - 0.5), 0.0)[known]
    return np.where(np.isnan(scores), 0.5, scores)


def conformal_interval(model: HybridModel, x, scores, level: float = 0.9, batch_size: int | None = None) -> np.ndarray:
    """Returns an interval of each response, `(2, n)`, its lower ends first, that holds it with probability `level`.

        [ F^-1(1/2 - s | x), F^-1(1/2 + s | x) ],   s the ceil((n + 1) level)-th smallest of the n scores

    This holds for any model and any number n of held-out rows, if these and the new rows come in an arbitrary order
    from the same place. It is the mean over all rows that is so: of the kinds of rows of which the model is too sure,
    fewer are in. An end is infinite where p(y|x) excludes too many held-out responses.

    Args:
      model: The model of the scores.
      x: As for `predict`.
      scores: The held-out rows' `conformal_scores`.
      level: The probability, between 0 and 1.
      batch_size: Rows of a batch; 256 if None.

    Raises:
      ValueError: If there are too few scores for this level.
    """
    _check(model)
    arguments.check_fraction(level, "level")
    scores = checks.reals(scores, "scores")
    if scores.ndim != 1 or not ((scores >= 0) & (scores <= 0.5)).all():
        raise ValueError(f"scores has shape {scores.shape}; wanted the (n,) numbers of `conformal_scores`, 0 to 0.5.")
    rank = math.ceil(round((len(scores) + 1) * level, 9))  # without the rounding of 0.7 * 10 > 7
    if rank > len(scores):
        least = math.ceil(round(level / (1 - level), 9))
        raise ValueError(f"scores has {len(scores)} rows; wanted at least {least} for `level` = {level}.")
    s = np.partition(scores, rank - 1)[rank - 1]
    p_y, _ = model.predict_distribution(x, batch_size)
    if s >= 0.5:
        ends = np.array([-np.inf, np.inf]).reshape(2, *[1] * len(p_y.batch_shape))
        return np.broadcast_to(ends, (2, *p_y.batch_shape)).copy()
    return quantile(p_y, [0.5 - s, 0.5 + s])


def _check(model):
    check_head(model)
    if model.head.classifies or model.head.event_shape:
        what = "of classes" if model.head.classifies else f"of vectors {model.head.event_shape}"
        raise ValueError(f"model has the head {type(model.head).__name__}, {what}; wanted one of single numbers.")
