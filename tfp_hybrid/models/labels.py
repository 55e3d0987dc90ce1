"""Rows without a label: how they are marked, and what they add to a loss and to metrics.

Once checked, a missing label of an integer head is -1, and one of another head is NaN in all its entries.
"""

import numbers

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.models import checks

_MISSING_INTEGER = -1


def check_missing_label(missing_label, head: keras.layers.Layer):
    """Raises ValueError unless `missing_label` is None or a number that is no label of a classifier."""
    if missing_label is None:
        return
    if not isinstance(missing_label, numbers.Real) or isinstance(missing_label, bool) or np.isinf(missing_label):
        raise ValueError(
            f"HybridModel: `missing_label` is {missing_label!r}; wanted a number, such as -1 or NaN, or None."
        )
    known = missing_label == missing_label and _takes(head, missing_label)
    if known and not _takes(head, -0.5):  # which only heads of all numbers take
        raise ValueError(
            f"HybridModel: `missing_label` is {missing_label!r}, which is a label of the head; wanted another number, "
            "such as -1."
        )


def _takes(head, label):
    """Whether a head takes this number as a label."""
    if head.integer_labels and float(label).is_integer():
        label = int(label)
    try:
        head.check_labels(np.full((1, *head.event_shape), label))
    except ValueError:
        return False
    return True


def checked(y, model: keras.Model, rows: int | None = None, argument: str = "y", x_argument: str = "x") -> np.ndarray:
    """Checks y as `checks.labels` does, of a model that may know rows without a label.

    Args:
      y: The responses, `(n, *event_shape)`; if the model has a `missing_label`, a row of which all entries equal it has
        no label.
      model: A `HybridModel`.
      rows: The number of rows of x, if known.
      argument: The name of y in error messages.
      x_argument: The name of x in error messages.

    Returns:
      The responses, `(n, *event_shape)`.

    Raises:
      ValueError: As `checks.labels`.
    """
    head = model.head
    if y is None:
        return checks.labels(y, head, rows, argument, x_argument)
    y = checks.unmasked(y, argument)
    missing = _is_missing(y, model.missing_label)
    if model.missing_label is not None and head.integer_labels:
        y = _whole(y, missing)
    if missing.any():
        # In the place of missing labels stands one that every head takes, so that errors count all rows.
        y = np.array(y)
        y[missing] = np.eye(y.shape[1])[1] if y.ndim == 2 and head.one_hot else 1
    try:
        found = checks.labels(y, head, rows, argument, x_argument)
    except ValueError as error:
        hint = _hint(y, model) if y.ndim and rows in (None, len(y)) else ""
        raise ValueError(f"{error}{hint}") from None
    if missing.any():
        found = np.array(found)
        found[missing] = _MISSING_INTEGER if head.integer_labels else np.nan
    return found


def _whole(y, missing):
    """Whole numbers as integers, if they are floats, as pandas stores them where there is a hole or was one."""
    if y.dtype.kind != "f" or not y.ndim:
        return y
    known = y[~missing]
    if not np.isfinite(known).all() or (known != np.floor(known)).any():
        return y
    return np.where(missing.reshape(-1, *[1] * (y.ndim - 1)), 0, y).astype(np.int64)


def _hint(y, model):
    """What to say of refused labels of which some may stand for none."""
    marked = (y != y) | (y == -1) if model.head.classifies else y != y
    if y.dtype.kind != "O" and not (y.dtype.kind in "fi" and marked.any()):
        return ""
    if model.missing_label is None:
        return " Rows without a label take `HybridModel(..., missing_label=...)`."
    return f" A row without a label has {model.missing_label} here, the model's `missing_label`."


def _is_missing(y, missing_label):
    """Returns which rows have no label, `(n,)`."""
    if missing_label is None or y.ndim == 0 or not np.issubdtype(y.dtype, np.number):
        return np.zeros(y.shape[:1], bool)
    equal = np.isnan(y) if np.isnan(missing_label) else y == missing_label
    return equal.reshape(len(y), -1).all(axis=1)


def check_some_known(y: np.ndarray, model: keras.Model, argument: str = "y"):
    """Raises ValueError if none of the checked labels is known, from which no head could learn."""
    if model.missing_label is not None and not are_known(y).any():
        remedy = " (Without any, `DensityModel` is the model.)" if argument == "y" else ""
        raise ValueError(
            f"{argument} holds {model.missing_label} in all {len(y)} rows; wanted a label in some of them.{remedy}"
        )


def check_can_adapt(y: np.ndarray, model: keras.Model):
    """Raises ValueError if the head takes its scale from labels, and none of the first batch is known."""
    if model.missing_label is not None and not model.head.is_adapted() and not are_known(y).any():
        raise ValueError(
            f"The first batch of the data set has no label, from which {type(model.head).__name__} takes its scale; "
            "wanted one in it, or `model.adapt(x, y)` before."
        )


def known(y: np.ndarray) -> np.ndarray:
    """Returns the checked labels that are not missing."""
    return y[are_known(y)]


def known_rows(y: np.ndarray, model: keras.Model) -> np.ndarray:
    """Returns which rows of checked labels have one, `(n,)`; all, if the model has no `missing_label`."""
    return np.ones(len(y), bool) if model.missing_label is None else are_known(y)


def are_known(y: np.ndarray) -> np.ndarray:
    """Returns `is_known` of an array of checked labels."""
    with tf.device("CPU"):
        return is_known(y).numpy()


def class_weights(y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the weight of each row's class, `(n,)`; 1 for a row without a label.

    Args:
      y: Checked labels.
      weights: The weights of the classes, `(K,)`.
    """
    known = are_known(y)
    return np.where(known, weights[np.where(known, y, 0).astype(int)], np.float32(1))


def is_known(y) -> tf.Tensor:
    """Returns which rows of checked labels are known, `(n,)`."""
    y = tf.convert_to_tensor(y)
    missing = tf.math.is_nan(y) if y.dtype.is_floating else tf.equal(y, _MISSING_INTEGER)
    return ~tf.reduce_all(tf.reshape(missing, [tf.shape(y)[0], -1]), -1)


def filled(y: tf.Tensor, seen: tf.Tensor, mean: tf.Tensor) -> tf.Tensor:
    """Returns labels that a distribution accepts: the first class, or the mean, in place of missing ones.

    Args:
      y: Checked labels.
      seen: Which of them are known, `(n,)`.
      mean: E[y|x].
    """
    fill = tf.stop_gradient(tf.cast(mean, y.dtype)) if y.dtype.is_floating else tf.zeros_like(y)
    return tf.where(tf.reshape(seen, [-1] + [1] * (y.shape.rank - 1)), y, fill)
