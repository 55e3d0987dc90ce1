"""Errors before any work is done: inputs, labels and weights that a model cannot use."""

import dataclasses
import math
import numbers
import re
import weakref

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors import Dequantize
from tfp_hybrid.models import frames

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What a distribution is over; TFP takes milliseconds to tell, too long for each batch."""

    shape: tuple[int, ...]
    dtype: tf.DType
    levels: int | None


_KNOWN = weakref.WeakKeyDictionary()


def _inputs_of(distribution) -> _Inputs:
    if distribution not in _KNOWN:
        parts = (distribution, *distribution.submodules)
        levels = next((part.quantization_levels for part in parts if isinstance(part, Dequantize)), None)
        _KNOWN[distribution] = _Inputs(tuple(distribution.event_shape), distribution.dtype, levels)
    return _KNOWN[distribution]


def quantization_levels(distribution) -> int | None:
    """The number of integer levels of each entry of x, or None if x is continuous."""
    return _inputs_of(distribution).levels


def input_dtype(distribution) -> str:
    """The dtype that inputs come to a model in: the flow's, or for integers the least that holds its levels.

    One for all of a model's inputs, so that nothing is traced again for integers in floats, say.
    """
    of = _inputs_of(distribution)
    return of.dtype.name if of.levels is None else "uint8" if of.levels <= 256 else "int32"


def check_distribution(distribution, name: str):
    """Raises ValueError unless a model called `name` can be built on `distribution`."""
    if not isinstance(distribution, tfd.Distribution) or not hasattr(distribution, "bijector"):
        raise ValueError(
            f"{name}: `distribution` is {distribution!r}; wanted a `tfd.TransformedDistribution`, such as "
            "`flow_distribution(flow)`."
        )
    if not distribution.event_shape.is_fully_defined() or distribution.event_shape.rank == 0:
        raise ValueError(
            f"{name}: `distribution` has event shape {distribution.event_shape}; wanted a known one of rank 1 or more."
        )
    if distribution.batch_shape.rank:
        raise ValueError(
            f"{name}: `distribution` has batch shape {distribution.batch_shape}; wanted none. Make its axes part of "
            "the event with `tfd.Independent`, or `tfd.MultivariateNormalDiag` as the base distribution."
        )


def inputs(x, model, argument="x", training=False, names=None) -> np.ndarray:
    """x as an array that `model` can take, in its `input_dtype`.

    Args:
      x: `(n, *event_shape)`, an array or a tensor; or a DataFrame, whose columns are matched by name if the model knows
        its features' names, and are taken in their order otherwise.
      model: the `HybridModel`.
      argument: what errors call x.
      training: whether the model is to be trained on x; see `check_inputs`.
      names: of a DataFrame's columns, for a model that knows none.

    Raises:
      ValueError: as `check_inputs`.
    """
    if frames.is_frame(x):
        x = frames.to_array(x, model.feature_names or names, argument)
    x = check_inputs(x, model.distribution, argument, training)
    with np.errstate(over="ignore"):  # an input that overflows has log p(x) = -inf
        return x.astype(input_dtype(model.distribution), copy=False)


def tensor(x, model) -> tf.Tensor:
    """`inputs` as a tensor, on the same gradient tape as x. What is traced or symbolic passes: it has no values yet."""
    if not tf.executing_eagerly() or isinstance(x, keras.KerasTensor):
        return x
    checked = inputs(x, model)
    return tf.cast(x, checked.dtype) if tf.is_tensor(x) else tf.convert_to_tensor(checked)


def check_inputs(x, distribution, argument="x", training=False) -> np.ndarray:
    """x as an array; ValueError unless it is a batch of finite events of `distribution`, and integers where needed.

    While training, values whose squares overflow are refused, too: log p(x) and the moments of `adapt` square them.
    (Elsewhere log p(x) of such an input is -inf, which is an answer.)
    """
    shape, levels = _inputs_of(distribution).shape, quantization_levels(distribution)
    if not hasattr(x, "shape"):
        raise ValueError(f"{argument} is a {type(x).__name__}; wanted an array of shape {('n', *shape)}.")
    if len(x.shape) != len(shape) + 1 or tuple(x.shape[1:]) != shape:
        raise ValueError(
            f"{argument} has shape {tuple(np.shape(x))}; wanted {('n', *shape)}: a batch of the flow's events."
        )
    if not x.shape[0]:
        raise ValueError(f"{argument} is empty; wanted at least one row.")
    x = unmasked(x, argument)
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.iscomplexobj(x):
        raise ValueError(f"{argument} has dtype {x.dtype}; wanted real numbers.")
    floating = not np.issubdtype(x.dtype, np.integer) and x.dtype != bool
    if floating:
        _check_finite(x, argument, " Remove or fill such rows.")
    if levels is None:
        if training:
            _check_magnitude(x, _inputs_of(distribution).dtype, argument)
        return x
    if floating and (x != np.floor(x)).any():
        raise ValueError(
            f"{argument} holds fractions such as {x[x != np.floor(x)].ravel()[0]}; wanted integers 0 .. {levels - 1}, "
            f"since this flow dequantizes {levels} levels. Pass the integer images, unscaled; or build the flow with "
            "quantization_levels=None for real-valued data."
        )
    if x.min() < 0 or x.max() >= levels:
        raise ValueError(
            f"{argument} has values from {x.min()} to {x.max()}; wanted integers 0 .. {levels - 1}. Set the flow's "
            "quantization_levels to the number of levels of your data."
        )
    return x


def labels(y, head, rows=None, argument="y", of="x") -> np.ndarray:
    """y as an array of the response's shape and dtype; ValueError unless `head` can take all of its rows.

    Args:
      y: responses, `(n, *event_shape)`; `(n, 1)` is taken for `(n,)`.
      head: the `Head`.
      rows: n, if known.
      argument, of: what errors call y and the inputs.
    """
    y = check_labels(y, head, rows, argument, of)
    with tf.device("CPU"):
        return head.prepare_labels(y).numpy()


def check_labels(y, head, rows=None, argument="y", of="x") -> np.ndarray:
    """y as an array; ValueError unless it holds as many labels as there are rows, all of which `head` can take."""
    if y is None:
        raise ValueError(f"{argument} is missing; wanted the responses of the head {head.name!r}.")
    y = unmasked(y, argument)
    if y.ndim == 0:
        raise ValueError(f"{argument} is {y}; wanted an array of shape {('n', *head.event_shape)}.")
    if rows is not None and len(y) != rows:
        raise ValueError(f"{argument} has {len(y)} rows and {of} has {rows}; wanted as many.")
    try:
        head.check_labels(y)
        head.prepare_labels(y[:1])
    except ValueError as error:
        raise ValueError(re.sub("^y ", f"{argument} ", str(error))) from None
    if not head.integer_labels:
        _check_magnitude(y, head.variable_dtype, argument)
    return y


def sample_weights(weights, rows: int, argument="sample_weight", of="x") -> np.ndarray:
    """Weights of rows as a float32 array, `(rows,)`; ValueError unless each row has one, a finite number >= 0."""
    if not hasattr(weights, "__len__") or isinstance(weights, (str, bytes, dict)):
        raise ValueError(f"{argument} is {weights!r}; wanted an array of shape ({rows},).")
    weights = unmasked(weights, argument)
    if weights.ndim == 2 and weights.shape[1] == 1:
        weights = weights[:, 0]
    if weights.ndim != 1:
        raise ValueError(f"{argument} has shape {weights.shape}; wanted ({rows},).")
    if len(weights) != rows:
        raise ValueError(f"{argument} has {len(weights)} rows and {of} has {rows}; wanted as many.")
    if not (np.issubdtype(weights.dtype, np.number) or weights.dtype == bool) or np.iscomplexobj(weights):
        raise ValueError(f"{argument} has dtype {weights.dtype}; wanted numbers >= 0.")
    _check_finite(weights, argument)
    if (weights < 0).any():
        index = int(np.flatnonzero(weights < 0)[0])
        raise ValueError(f"{argument} holds {weights[index]} at index {index}; wanted numbers >= 0.")
    _check_magnitude(weights, "float32", argument)
    return weights.astype("float32")


def class_weights(weights, head) -> np.ndarray:
    """The weight of each class, `(K,)`, from a dictionary as Keras' `fit` takes it.

    Raises:
      ValueError: unless the head is a classifier of single labels and the dictionary has a finite number >= 0 for each
        of its classes, and for nothing else.
    """
    count = getattr(head, "num_classes", 2)
    if not head.classifies or head.event_shape:
        raise ValueError(f"class_weight is {weights!r}; the head {type(head).__name__} has no classes to weigh.")
    if not isinstance(weights, dict):
        raise ValueError(f"class_weight is {weights!r}; wanted a dict from each class, 0 .. {count - 1}, to a weight.")
    unknown = [key for key in weights if not isinstance(key, numbers.Real) or key not in range(count)]
    missing = [label for label in range(count) if label not in weights]
    if unknown or missing:
        found = f"has the key {unknown[0]!r}" if unknown else f"lacks the class {missing[0]}"
        raise ValueError(f"class_weight {found}; wanted a weight for each class, 0 .. {count - 1}.")
    limit = _limit("float32")
    for label, weight in weights.items():
        if not isinstance(weight, numbers.Real) or not 0 <= weight < limit:
            raise ValueError(
                f"class_weight of class {label} is {weight!r}; wanted a finite number >= 0, and below {limit:.2g}."
            )
    return np.array([weights[label] for label in range(count)], "float32")


def unmasked(values, argument) -> np.ndarray:
    """`values` as an array; ValueError if they are a masked array with masked entries, or cannot be an array."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        index = np.argwhere(np.ma.getmaskarray(values))[0].tolist()
        raise ValueError(f"{argument} is masked at index {index}; wanted every entry. Remove or fill such rows.")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, NotImplementedError) as error:  # a list of rows of unequal length, a symbolic tensor
        reason = str(error).splitlines()[0]
        raise ValueError(f"{argument} is a {type(values).__name__} that is no array: {reason}") from None


def reals(values, argument) -> np.ndarray:
    """`values` as a float64 array; ValueError if they are no real numbers."""
    values = unmasked(values, argument)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{argument} is of dtype {values.dtype}; wanted real numbers.")
    return values.astype(float)


def _check_finite(values, argument, remedy=""):
    if not np.isfinite(values).all():
        index = np.argwhere(~np.isfinite(values))[0].tolist()
        raise ValueError(f"{argument} holds {values[tuple(index)]} at index {index}; wanted finite numbers.{remedy}")


def _check_magnitude(values, dtype, argument):
    """Raises ValueError for numbers whose squares overflow in `dtype`."""
    limit = _limit(dtype)
    if values.size and max(abs(float(values.max())), abs(float(values.min()))) >= limit:
        index = np.argwhere(np.abs(values.astype(float)) >= limit)[0].tolist()
        raise ValueError(
            f"{argument} holds {values[tuple(index)]:g} at index {index}; wanted magnitudes below {limit:.2g}, whose "
            "squares are finite. Remove such rows, or rescale the data."
        )


def _limit(dtype):
    return math.sqrt(float(np.finfo(np.dtype(getattr(dtype, "name", dtype))).max))
