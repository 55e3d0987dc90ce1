"""`combine`: several scores as one, by their p-values."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import Composite, Score, evaluate, run

METHODS = ("simes", "fisher")
_FOLDS = 5
_LEAST = 20
_TAIL = 0.95  # the quantile beyond which the scores' tail is taken to be exponential


def combine(scores: Sequence[Score], method: str = "simes") -> "Combined":
    """Returns a score that is high where one of several scores is unusually high; see `Combined`."""
    return Combined(scores, method)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Combined(Composite):
    """-log of a combined p-value: how rarely an in-distribution input has scores like these, in nats.

    The p-value of a score s is the fraction of held-out inputs whose score is at least s; beyond their 95 % quantile t,
    it falls as exp(-(s - t) / b), with b the mean excess over t. With p_(1) <= ... <= p_(k) those of the k scores,

        simes:   -log min_i k p_(i) / i           the most unusual score decides
        fisher:  -sum_i log p_i                   all scores add up; half a chi-squared variable if they are independent

    An alarm at a combined p-value of alpha has a false-alarm rate of about alpha by Simes' method, also for positively
    dependent scores. Scores that need a fit are fitted to all held-out inputs; those that p-values are taken from are
    of inputs that were left out of it, one fifth at a time. `fit` keeps x and z of all held-out inputs in memory.

    Args:
      scores: At least one `Score`.
      method: "simes" or "fisher".
      **kwargs: Passed to `Score`.

    Raises:
      ValueError: If `scores` is empty or holds something else, or if the method is neither; when fitted, if x has too
        few inputs.

    References:
      Simes 1986, "An improved Bonferroni procedure for multiple tests of significance".
      Fisher 1932, "Statistical Methods for Research Workers", section 21.1.
      Bates, Candes, Lei, Romano and Sesia 2023, "Testing for outliers with conformal p-values".
    """

    needs_fit = True
    title = "combined"

    def __init__(self, scores: Sequence[Score], method: str = "simes", **kwargs):
        if method not in METHODS:
            raise ValueError(f"combine: `method` is {method!r}; wanted one of {', '.join(METHODS)}.")
        if not isinstance(scores, Sequence):
            raise ValueError(f"combine: `scores` is {scores!r}; wanted a list of `Score`s.")
        super().__init__(list(scores), **kwargs)
        self.method = method
        self.reference, self.tails = self.add_array("reference"), self.add_array("tails")

    def learn(self, model: DensityModel, x, batch_size: int):
        encodings = list(encode_batches(model, x, batch_size))  # one pass for all scores and folds
        sizes = [encoding.log_p_z.shape[0] for encoding in encodings]
        numbers = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])  # of the rows, batch by batch
        unfitted, found = [score for score in self.scores if score.needs_fit], []
        for fold in range(_FOLDS if unfitted else 0):
            parts = [(e, rows % _FOLDS == fold) for e, rows in zip(encodings, numbers, strict=True)]
            for score in unfitted:
                score.fit(model, [e.rows(~chosen) for e, chosen in parts if not chosen.all()])
            found.append(run(self.scores, model, [e.rows(chosen) for e, chosen in parts if chosen.any()]))
        for score in unfitted:
            score.fit(model, encodings)
        found = np.concatenate(found, 1) if unfitted else run(self.scores, model, encodings)
        reference = np.sort(found.astype("float64"))
        if reference.shape[1] < _LEAST or not np.isfinite(reference).all():
            good = np.isfinite(reference).all(0).sum()
            raise ValueError(
                f"combine: x has {good} inputs of finite scores, of {reference.shape[1]}; wanted at least {_LEAST} "
                "held-out in-distribution inputs, and no others."
            )
        ends = np.quantile(reference, _TAIL, axis=1)
        excess = [
            (row[row > end] - end).mean() if row[-1] > end else 0 for row, end in zip(reference, ends, strict=True)
        ]
        self.reference.assign(reference)
        self.tails.assign([ends, np.maximum(excess, 1e-6 * (np.abs(ends) + 1e-9))])

    def of(self, encoding: Encoding) -> tf.Tensor:
        scores = tf.stack([tf.cast(evaluate(score, encoding), tf.float32) for score in self.scores])
        reference = tf.ensure_shape(self.reference, (len(self.scores), None))
        count = tf.shape(reference)[1]
        higher = count - tf.searchsorted(reference, scores, side="left")
        nlp = tf.math.log(tf.cast(count + 1, tf.float32) / tf.cast(higher + 1, tf.float32))
        end, excess = (part[:, tf.newaxis] for part in tf.unstack(tf.ensure_shape(self.tails, (2, len(self.scores)))))
        nlp = tf.where(scores > end, -np.float32(np.log(1 - _TAIL)) + (scores - end) / excess, nlp)
        if self.method == "fisher":
            return tf.reduce_sum(nlp, 0)
        least_first = tf.sort(nlp, 0, "DESCENDING")
        ranks = tf.range(1, len(self.scores) + 1, dtype=tf.float32)
        return tf.reduce_max(least_first + tf.math.log(ranks / len(self.scores))[:, tf.newaxis], 0)

    def get_config(self) -> dict:
        return super().get_config() | {"method": self.method}
