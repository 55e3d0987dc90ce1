"""What the tests of drift compare: z, scores, predictions and columns of inputs, from one pass through the model."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfp_hybrid.models import DensityModel, checks
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.tables import frames
from tfp_hybrid.uncertainty.scores import Score
from tfp_hybrid.uncertainty.scores.base import evaluate


@dataclasses.dataclass(frozen=True, eq=False)
class Observed:
    """What is known of n inputs.

    Attributes:
      x: The inputs, flattened, `(n, k)`.
      z: Their latents, flattened, `(n, d)`; NaN or infinite where they overflow.
      numbers: A dictionary from (group, name) to numbers, `(n,)`. The groups are "scores", "response" and "columns";
        those of columns are NaN in holes, and all others have no NaN.
      classes: A dictionary from (group, name) to predicted classes, `(n,)`; empty unless the head classifies.
    """

    x: np.ndarray
    z: np.ndarray
    numbers: dict[tuple[str, str], np.ndarray]
    classes: dict[tuple[str, str], np.ndarray]

    def __len__(self):
        return len(self.z)


def observe(
    model: DensityModel, scores: Sequence[Score], x, batch_size: int | None, names: Sequence[str] | None = None
) -> Observed:
    """Runs a model on inputs, in batches.

    Args:
      model: A `HybridModel` or a `DensityModel`.
      scores: Fitted `Score` layers.
      x: An array `(n, *event_shape)`, a DataFrame, which the model's `tables.Columns` convert if it has them, or a
        `tf.data.Dataset` of batches.
      batch_size: The number of rows in a batch of an array.
      names: The names of the columns of x, if x is a vector; their numbers by default.

    Raises:
      ValueError: If the model cannot take x.
    """
    if frames.is_frame(x):
        x = checks.inputs(x, model, names=names)
    parts = []
    for encoding in encode_batches(model, x, batch_size):
        mean = None if model.head is None else model.head.mean(encoding.p_y).numpy()
        values = [evaluate(score, encoding).numpy() for score in scores]
        parts.append((encoding.x.numpy(), encoding.latents.numpy(), mean, *values))
    x, z, mean, *values = (None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True))
    numbers = {("scores", score.title): value for score, value in zip(scores, values, strict=True)}
    classes = {}
    if mean is not None:
        confidence, predicted = _prediction(mean, model.head)
        numbers |= confidence
        classes |= predicted
    if x.ndim == 2:
        names = model.feature_names or names or [str(i) for i in range(x.shape[1])]
        columns = {("columns", name): column for name, column in zip(names, x.T, strict=True)}
    else:
        columns = {}
    numbers = {key: np.where(np.isnan(value), np.inf, value) for key, value in numbers.items()} | columns
    return Observed(x.reshape(len(x), -1), z, numbers, classes)


def _prediction(mean, head):
    """Returns the predicted numbers, and the predicted classes of a classifier."""
    flat = mean.reshape(len(mean), -1)
    if head.num_classes is not None:
        if mean.ndim == 2:
            return {("response", "highest probability"): flat.max(-1)}, {("response", "class"): flat.argmax(-1)}
        return {("response", "probability"): mean}, {("response", "class"): (mean > 0.5).astype(int)}
    if flat.shape[1] == 1:
        return {("response", "prediction"): flat[:, 0]}, {}
    return {("response", f"prediction {i}"): column for i, column in enumerate(flat.T)}, {}
