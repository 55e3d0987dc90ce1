"""Predictions of a trained model and their metrics."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_hybrid.commands.progress import batches
from tfp_hybrid.models import HybridModel, side_inputs
from tfp_hybrid.models.checks import quantization_levels
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty import detection
from tfp_hybrid.uncertainty.scores import Score
from tfp_hybrid.uncertainty.scores.base import evaluate

BATCH_SIZE = 500


@dataclasses.dataclass
class Predictions:
    """A model's predictions for n inputs, from one pass.

    Attributes:
      mean: E[y|x], class probabilities `(n, K)` or numbers `(n,)`.
      stddev: Predictive standard deviation, `(n,)`; None for classification.
      entropy: Entropy of p(y|x) in nats, `(n,)`; None if it has no closed form.
      nll: -log p(y|x) in nats, `(n,)`; None without labels.
      log_prob_x: log p(x) in nats, `(n,)`; -inf for extreme inputs whose density overflows.
      scores: Values of the requested scores, `(n, len(scores))`.
    """

    mean: np.ndarray
    stddev: np.ndarray | None
    entropy: np.ndarray | None
    nll: np.ndarray | None
    log_prob_x: np.ndarray
    scores: np.ndarray


def predict(
    model: HybridModel, x, y=None, description: str = "predicting", wanted: Sequence[Score] = ()
) -> Predictions:
    """Runs the model on the inputs, with a progress bar.

    Args:
      model: A `HybridModel`.
      x: Inputs, `(n, *event_shape)`; or a dict for a model with side inputs.
      y: Labels, `(n, ...)`, or None.
      description: Text next to the progress bar.
      wanted: `Score`s to evaluate in the same pass.
    """
    for score in wanted:
        score.check_fitted(model)
    parts = []
    for rows in batches(side_inputs.count(x), BATCH_SIZE, description):
        (encoding,) = encode_batches(model, side_inputs.take(x, rows), BATCH_SIZE)
        p_y = encoding.p_y
        mean = model.head.mean(p_y).numpy()
        classes = mean.ndim == 2 and model.head.integer_labels
        parts.append(
            Predictions(
                mean,
                None if classes else p_y.stddev().numpy(),
                _entropy(p_y),
                None if y is None else -p_y.log_prob(model.head.prepare_labels(y[rows])).numpy(),
                encoding.log_prob.numpy(),
                np.stack([evaluate(score, encoding) for score in wanted], -1) if wanted else np.zeros((len(mean), 0)),
            )
        )
    columns = zip(*(dataclasses.astuple(part) for part in parts), strict=True)
    return Predictions(*(None if column[0] is None else np.concatenate(column) for column in columns))


def test_metrics(model: HybridModel, predictions: Predictions, y) -> dict[str, float]:
    """Computes metrics of labelled rows.

    Args:
      model: The `HybridModel` that made the predictions.
      predictions: Its predictions.
      y: Labels, `(n, ...)`.

    Returns:
      "error" (a fraction) for classifiers or "rmse" for regressors; "nll" and "log_prob_x", means in nats;
      "bits_per_dim" for integer inputs; and "entropy", the mean entropy of p(y|x) in nats, if it has a closed form.
    """
    if model.head.classifies:
        metrics = {"error": float(np.mean(labels(predictions.mean) != y))}
    else:
        metrics = {"rmse": float(np.sqrt(np.mean((predictions.mean - y) ** 2)))}
    metrics["nll"] = float(predictions.nll.mean())
    metrics["log_prob_x"] = float(predictions.log_prob_x.mean())
    if quantization_levels(model.distribution) is not None:
        nats_per_bit_dim = np.log(2) * model.distribution.event_shape.num_elements()
        metrics["bits_per_dim"] = -metrics["log_prob_x"] / nats_per_bit_dim
    if predictions.entropy is not None:
        metrics["entropy"] = float(predictions.entropy.mean())
    return metrics


def ood_metrics(inside: Predictions, outside: Predictions, column: int | None = None) -> dict[str, float | None]:
    """Computes how well a score detects out-of-distribution inputs, which are the positive class.

    Args:
      inside: Predictions for in-distribution inputs.
      outside: Predictions for out-of-distribution inputs.
      column: The column of `Predictions.scores` with the score; None for -log p(x).

    Returns:
      "auroc"; "fpr95", the false positive rate at 95 % true positives; with a `column`, "log_prob_auroc", the AUROC of
      -log p(x); "nll" of the labels of `outside`, None without labels; and "entropy", the mean entropy of p(y|x) for
      `outside` in nats, None if it has no closed form.
    """
    by_density = -inside.log_prob_x, -outside.log_prob_x
    score = by_density if column is None else (inside.scores[:, column], outside.scores[:, column])
    found = {"auroc": detection.auroc(*score), "fpr95": detection.fpr_at_tpr(*score)}
    if column is not None:
        found["log_prob_auroc"] = detection.auroc(*by_density)
    return found | {
        "nll": None if outside.nll is None else float(outside.nll.mean()),
        "entropy": None if outside.entropy is None else float(outside.entropy.mean()),
    }


def labels(mean) -> np.ndarray:
    """Returns the most probable classes from class probabilities `(n, K)` or probabilities of class 1 `(n,)`."""
    return mean.argmax(-1) if mean.ndim == 2 else (mean > 0.5).astype(int)


def with_errors(history: dict[str, list[float]]) -> dict[str, list[float]]:
    """Returns the columns of a history, with accuracy converted to error."""
    return {
        name.replace("accuracy", "error"): [1 - value for value in column] if name.endswith("accuracy") else column
        for name, column in history.items()
    }


def _entropy(p_y) -> np.ndarray | None:
    try:
        return tf.convert_to_tensor(p_y.entropy()).numpy()
    except NotImplementedError:
        return None
