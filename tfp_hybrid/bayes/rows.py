"""`Rows`: what a head sees of the rows that a posterior is fitted to, after one pass through the flow."""

import dataclasses
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.models import HybridModel, feeding, labels, side_inputs
from tfp_hybrid.models.sources import source

_MOST_ENTRIES = 2**22  # of what is computed of a chunk of rows


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows as the head of a model sees them.

    Attributes:
      z: `(n, d)`, or `(n, d + c)` with columns of side inputs, in the dtype of the head.
      y: Responses, as `Head.prepare_labels` returns them.
      weights: `(n,)`, float64; ones without sample weights.
    """

    z: np.ndarray
    y: np.ndarray
    weights: np.ndarray

    @property
    def phi(self) -> np.ndarray:
        """(z, 1), `(n, d + 1)`, float64."""
        return np.concatenate([self.z.astype(float), np.ones((len(self.z), 1))], 1)

    @property
    def total(self) -> float:
        """The sum of the weights."""
        return float(self.weights.sum())

    def chunks(self, entries: int) -> Iterator[tuple]:
        """Yields z, y and weights of as many rows at a time as memory holds that many entries of each for."""
        size = int(np.clip(_MOST_ENTRIES // entries, 16, 2**14))
        for start in range(0, len(self.z), size):
            part = slice(start, start + size)
            yield self.z[part], self.y[part], self.weights[part]


def encoded(model: HybridModel, x, y, sample_weight, batch_size: int | None) -> Rows:
    """Returns the checked rows after their pass through the flow.

    Raises:
      ValueError: If the model cannot be trained on the rows, or if a latent is not finite.
    """
    feed = feeding.Feed(model, training=True)
    parts = []
    with feed.errors():
        for batch in source(feed, x, y, sample_weight, batch_size or 256).batches():
            x_batch, y_batch, weights = keras.utils.unpack_x_y_sample_weight(batch)
            z = model.encode_checked(side_inputs.tensors(x_batch)).features
            z = tf.cast(z, model.head.variable_dtype).numpy()
            weights = np.ones(len(z)) if weights is None else np.asarray(weights, float).reshape(-1)
            parts.append((z, np.asarray(model.head.prepare_labels(y_batch)), weights))
    if not parts:
        raise ValueError("x is empty; wanted at least one row.")
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    known = labels.known_rows(columns[1], model)
    rows = Rows(*(column[known] for column in columns))
    if not len(rows.y):
        raise ValueError(f"y holds {model.missing_label} in all rows; wanted a label in some of them.")
    bad = ~np.isfinite(rows.z).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(f"x: the latent of row {row} is not finite; wanted rows that the flow can encode.")
    if not rows.total:
        raise ValueError("sample_weight is zero for all rows; wanted at least one positive weight.")
    return rows


def check_model(model):
    """Raises ValueError unless the head of a model can have a posterior of its coefficients alone."""
    check_kernel(model)
    side_inputs.check_none(model.head, "posterior")


def check_kernel(model):
    """Raises ValueError unless the head of a model has a kernel without an uncertainty of its own."""
    if not isinstance(model, HybridModel):
        raise ValueError(f"model is {model!r}; wanted a `HybridModel`.")
    if not model.head.has_kernel:
        raise ValueError(f"The head {type(model.head).__name__} has no kernel; wanted one that a posterior can be of.")
    if model.head.weight_stddev:
        raise ValueError(
            f"The head has weight_stddev = {model.head.weight_stddev}, an uncertainty of its own; wanted 0, or no "
            "posterior."
        )
