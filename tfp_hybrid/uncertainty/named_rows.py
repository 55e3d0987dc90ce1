"""Inputs that are rows of named columns: their names, their values, and log p of them."""

import contextlib

import numpy as np

from tfp_hybrid.models import DensityModel, side_inputs
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.tables import frames
from tfp_hybrid.uncertainty.scores.base import check_model

BATCH_SIZE = 4096


def check_rows(model):
    """Raises ValueError unless `model` is a `DensityModel` of vectors without an encoder."""
    check_model(model)
    if model.encoder is not None:
        raise ValueError("model has an encoder, so its density is that of features; wanted a model of the columns.")
    shape = model.inputs_spec.shape
    if len(shape) != 1:
        raise ValueError(f"model takes inputs of shape {shape}; wanted vectors, whose entries are columns.")


def names_of(model: DensityModel, x) -> tuple[str, ...]:
    """Returns the names of the columns: the model's, or those of a DataFrame x, or x0, x1, ..."""
    if model.feature_names is not None:
        return tuple(model.feature_names)
    frame = side_inputs.frame_in(x)
    if frame is not None:
        return tuple(name for name in frames.column_names(frame) if name not in model.side_inputs)
    return tuple(f"x{i}" for i in range(model.inputs_spec.shape[0]))


def noise(model: DensityModel, number: int):
    """A context in which `tables.Columns`, if the model has them, use the noise of this number."""
    columns = model.inputs_spec.columns
    return contextlib.nullcontext() if columns is None else columns.draw(number)


def log_probs(model: DensityModel, x, y: np.ndarray | None = None) -> np.ndarray:
    """Returns log p(x), and if y is given log p(y|x), in nats, `(1 or 2, n)`, float64; -inf where they overflow.

    Args:
      model: A `DensityModel`; with y, a `HybridModel`.
      x: Rows that `checks.inputs` made.
      y: Responses that `checks.labels` made, `(n, *event_shape)`.
    """
    parts, start = [], 0
    for encoding in encode_batches(model, x, BATCH_SIZE):
        found = [encoding.log_prob.numpy()]
        if y is not None:
            stop = start + len(found[0])
            found.append(encoding.p_y.log_prob(model.head.prepare_labels(y[start:stop])).numpy())
            start = stop
        parts.append(found)
    joined = np.concatenate(parts, axis=1).astype(float)
    return np.where(np.isnan(joined), -np.inf, joined)
