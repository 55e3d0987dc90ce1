"""`Answers`: what a trained model says about rows, as named columns, from one compiled pass."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import tensorflow as tf

from tfp_hybrid.execution import graph_function
from tfp_hybrid.models import DensityModel, side_inputs
from tfp_hybrid.uncertainty import Aleatoric, Epistemic, NegativeLogProb, Rejector
from tfp_hybrid.uncertainty.scores.base import evaluate

_FEWEST_ROWS, _MOST_ROWS, _VALUES = 16, 2**12, 2**18  # of a batch


class Answers:
    """Maps inputs to a table of answers, with one row for each input.

    The columns are

    * "prediction": the class, or E[y|x]; a vector response has "prediction_0", "prediction_1", ...
    * "probability": that of the predicted class; only for classes.
    * "uncertainty": for classes, the entropy of p(y|x) in nats; for numbers, the predictive standard deviation.
    * "epistemic" and "aleatoric": as `uncertainty.decompose`; only with a posterior of the head.
    * "log_prob_x": log p(x) in nats; -inf where it overflows.
    * "score": that of the rejector, unless it is -log p(x).
    * "percentile": the percentage of the held-out inputs with a higher score, 0 to 100; only with a rejector.
    * "abstain": whether the rejector abstains; also true for rows of tables with a level, or a hole in a column, that
      no training row had.

    A `DensityModel` answers with "log_prob_x" alone.

    The answers about a row are the same to the last bit whenever its batch is the same.

    Args:
      model: A trained `DensityModel` or `HybridModel`.
      rejector: The fitted rejector of this model, or None.
      classes: The classes in the order of their codes; None leaves the codes.

    Attributes:
      batch_size: The number of rows that are computed at a time.
    """

    def __init__(self, model: DensityModel, rejector: Rejector | None = None, classes: Sequence | None = None):
        self.model, self.rejector = model, rejector
        self._classes = None if classes is None else pd.Series(list(classes)).to_numpy()
        self._scores = {}
        if model.head is not None and model.head.is_integrated:
            self._scores = {"epistemic": Epistemic(), "aleatoric": Aleatoric()}
        if rejector is not None:
            self._scores["score"] = rejector.score
        for score in self._scores.values():
            score.check_fitted(model)
        size = int(np.prod([length or 1 for length in model.inputs_spec.shape]))
        self.batch_size = int(np.clip(2 ** int(np.log2(_VALUES / size)), _FEWEST_ROWS, _MOST_ROWS))
        self._passes, self._function = {}, graph_function(self._pass)

    def __call__(self, x: np.ndarray | dict, abstain_below: float | None = None) -> dict[str, np.ndarray]:
        """Returns the answers about checked inputs.

        Args:
          x: `(n, *input_shape)`; of a model with side inputs, a dict.
          abstain_below: Percentile of the held-out inputs, 0 to 100, below which to abstain; None uses the rejector's
            threshold.

        Returns:
          The columns by name, each `(n,)`.
        """
        return self.table(x, self.compute(x), abstain_below)

    def compute(self, x: np.ndarray | dict) -> dict[str, np.ndarray]:
        """Returns what the model computes of checked inputs, from one pass in batches; `table` makes the rest of it."""
        parts = []
        for start in range(0, max(side_inputs.count(x), 1), self.batch_size):
            rows = side_inputs.take(x, slice(start, start + self.batch_size))
            parts.append(self.bare_pass(side_inputs.tensors(rows)))
        return {name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]}

    def bare_pass(self, x: tf.Tensor | dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Computes one batch as a compiled graph."""
        dtype = side_inputs.main(x).dtype  # those of side inputs are always the same
        if dtype not in self._passes:
            # One graph for batches of all sizes: graphs for several might differ in the last bit.
            spec = tf.TensorSpec((None, *self.model.inputs_spec.shape), dtype)
            if side_inputs.is_dict(x):
                side = {
                    name: tf.TensorSpec((None, *one.shape), x[name].dtype)
                    for name, one in self.model.side_inputs.items()
                }
                spec = {side_inputs.X: spec} | side
            self._passes[dtype] = self._function.get_concrete_function(spec)
        return self._passes[dtype](x)

    def table(self, x: np.ndarray | dict, computed: dict[str, np.ndarray], abstain_below: float | None = None) -> dict:
        """Returns the columns by name, from what `compute` returned for the inputs x."""
        found = dict(computed)
        if self._classes is not None and "prediction" in found:
            found["prediction"] = self._classes[found["prediction"]]
        columns = {}
        for name in ("prediction", "probability", "uncertainty", "epistemic", "aleatoric", "log_prob_x"):
            if name in found and found[name].ndim == 1:
                columns[name] = found[name]
            elif name in found:
                columns |= {f"{name}_{i}": column for i, column in enumerate(found[name].T)}
        if self.rejector is not None:
            scores = found["score"]
            if not isinstance(self.rejector.score, NegativeLogProb):
                columns["score"] = scores
            percentile = self.rejector.percentile(scores)
            columns["percentile"] = np.round(percentile, 2)
            columns["abstain"] = (
                scores > float(self.rejector.threshold.numpy()) if abstain_below is None else percentile < abstain_below
            )
            if self.model.inputs_spec.columns is not None:
                columns["abstain"] |= self.model.inputs_spec.columns.has_new(side_inputs.main(x))
        return columns

    def _pass(self, x):
        encoding, head = self.model.encode_checked(x), self.model.head
        found = {"log_prob_x": encoding.log_prob}
        if head is not None:
            p_y, mean = encoding.p_y, head.mean(encoding.p_y)
            if mean.shape.rank == 2 and head.integer_labels:
                found["prediction"] = tf.argmax(mean, -1)
                found["probability"] = tf.reduce_max(mean, -1)
                found["uncertainty"] = -tf.reduce_sum(tf.math.xlogy(mean, mean), -1)
            else:
                found |= {"prediction": mean, "uncertainty": p_y.stddev()}
        return found | {name: evaluate(score, encoding) for name, score in self._scores.items()}
