"""Checks of inputs, labels and weights, made before a model does any work."""

import math
import numbers
import re
import warnings
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.models import input_spec, side_inputs
from tfp_hybrid.models.input_spec import InputSpec
from tfp_hybrid.tables import frames

tfd = tfp.distributions
_ROWS_TO_LOOK_AT, _FEW_VALUES = 500, 10  # to find columns of codes


def quantization_levels(distribution: tfd.Distribution) -> int | None:
    """Returns the number of integer levels of each entry of x, or None if x is continuous."""
    return input_spec.of_distribution(distribution).levels


def check_distribution(distribution, name: str):
    """Raises ValueError unless a model can be built on `distribution`; `name` is the model's name in the message."""
    if not isinstance(distribution, tfd.Distribution) or not hasattr(distribution, "bijector"):
        raise ValueError(
            f"{name}: `distribution` is {distribution!r}; wanted a `tfd.TransformedDistribution`, such as "
            "`flow_distribution(flow)`."
        )
    if not distribution.event_shape.is_fully_defined() or distribution.event_shape.rank == 0:
        raise ValueError(
            f"{name}: `distribution` has event shape {distribution.event_shape}; wanted a known shape of rank >= 1."
        )
    if distribution.batch_shape.rank:
        raise ValueError(
            f"{name}: `distribution` has batch shape {distribution.batch_shape}; wanted none. Make its axes part of "
            "the event with `tfd.Independent`, or `tfd.MultivariateNormalDiag` as the base distribution."
        )


def inputs(
    x, model: keras.Model, argument: str = "x", training: bool = False, names: Sequence[str] | None = None
) -> np.ndarray:
    """Converts x to an array that `model` can take, in the dtype in which its inputs are stored.

    Args:
      x: `(n, *input_shape)`, an array or a tensor; or a DataFrame, which the model's `tables.Columns` convert. Without
        them, its columns are matched by name if the model has `feature_names`, and are taken in their order otherwise.
      model: A `DensityModel`.
      argument: The name of x in error messages.
      training: Whether the model will be trained on x; see `check_inputs`.
      names: The column names of a DataFrame, for a model without `feature_names`.

    Returns:
      The inputs, `(n, *input_shape)`; of a model with side inputs, a dict of them and of the side inputs.

    Raises:
      ValueError: If x is a DataFrame without the named columns, if a side input is not as the head wants it,
        or if `check_inputs` refuses x.
    """
    columns = model.inputs_spec.columns
    x, side = side_inputs.split(x, model, argument)
    if columns is not None and frames.is_frame(x):
        x = columns.to_array(x, argument)
    elif frames.is_frame(x):
        x = frames.to_array(x, model.feature_names or names, argument)
    x = _checked(x, model.inputs_spec, argument, training)
    with np.errstate(over="ignore"):  # an input that overflows gets log p(x) = -inf
        x = x.astype(model.inputs_spec.stored_dtype(x.dtype), copy=False)
    return side_inputs.joined(x, side, model, argument, training)


def tensor(x, model: keras.Model) -> tf.Tensor:
    """Returns `inputs` as a tensor through which gradients flow to x.

    Traced and symbolic tensors are returned unchecked, since they have no values yet.
    """
    if not tf.executing_eagerly() or isinstance(side_inputs.main(x), keras.KerasTensor):
        return x
    checked = inputs(x, model)
    given, found = side_inputs.main(x), side_inputs.tensors(checked)
    if tf.is_tensor(given):
        found = side_inputs.with_main(found, tf.cast(given, side_inputs.main(checked).dtype))
    return found


def check_inputs(x, distribution: tfd.Distribution, argument: str = "x", training: bool = False) -> np.ndarray:
    """Checks that x is a batch of finite events of `distribution`, and integers where it dequantizes.

    For training, values whose squares overflow are refused as well, because log p(x) and the moments of `adapt` square
    them. Otherwise they are valid inputs, with log p(x) = -inf.

    Args:
      x: `(n, *event_shape)`, an array or a tensor.
      distribution: The distribution p(x).
      argument: The name of x in error messages.
      training: Whether a model will be trained on x.

    Returns:
      x as an array of its own dtype.

    Raises:
      ValueError: If x has another shape, no rows, or values that the distribution cannot take.
    """
    return _checked(x, input_spec.of_distribution(distribution), argument, training)


def warn_of_codes(x: np.ndarray, model: keras.Model, names: Sequence[str] | None = None):
    """Warns of columns of few values, such as codes and one-hot columns, that nothing dequantizes, if p(x) is trained.

    Args:
      x: Checked inputs without side inputs, on which the model will be trained.
      model: A `DensityModel`.
      names: The names of the columns, if they are known.
    """
    spec, trains_density = model.inputs_spec, getattr(model, "generative_weight", 1)
    if spec.levels is not None or spec.columns is not None or model.encoder is not None or x.ndim != 2:
        return
    rows = x[:_ROWS_TO_LOOK_AT]
    if len(rows) < _ROWS_TO_LOOK_AT or not trains_density:
        return
    few = [i for i, column in enumerate(rows.T) if 1 < len(np.unique(column)) <= _FEW_VALUES]
    if few:
        names = model.feature_names or names or range(x.shape[1])
        listed = ", ".join(repr(names[i]) for i in few[:5]) + (", ..." if len(few) > 5 else "")
        warnings.warn(
            f"Of x, the columns {listed} have at most {_FEW_VALUES} different values in {len(rows):,} rows. log p(x) "
            "is a density, which has no upper bound there, so training raises it without end. Put `tables.Columns` "
            "in front of the flow, or `bijectors.Dequantize`.",
            stacklevel=5,
        )


def _checked(x, spec: InputSpec, argument, training):
    shape, levels = spec.shape, spec.levels
    if not hasattr(x, "shape"):
        raise ValueError(f"{argument} is a {type(x).__name__}; wanted an array of shape {('n', *shape)}.")
    if not x.shape or not spec.fits(x.shape[1:]):
        raise ValueError(f"{argument} has shape {tuple(np.shape(x))}; wanted {('n', *shape)}: a batch of {spec.of}.")
    if not x.shape[0]:
        raise ValueError(f"{argument} is empty; wanted at least one row.")
    x = unmasked(x, argument)
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.iscomplexobj(x):
        raise ValueError(f"{argument} has dtype {x.dtype}; wanted real numbers.")
    if spec.columns is not None:
        return spec.columns.check_array(x, argument)
    floating = not np.issubdtype(x.dtype, np.integer) and x.dtype != bool
    if floating:
        _check_finite(x, argument, " Remove or fill such rows.")
    if levels is None:
        if training and spec.dtype.is_floating:
            _check_magnitude(x, spec.dtype, argument)
        if floating and spec.dtype.is_integer and (x != np.floor(x)).any():
            raise ValueError(f"{argument} holds fractions; wanted integers, {spec.dtype.name}: {spec.of}.")
        return x
    if floating and (x != np.floor(x)).any():
        raise ValueError(
            f"{argument} holds fractions such as {x[x != np.floor(x)].ravel()[0]}; wanted integers 0 .. {levels - 1}, "
            f"since this flow is of {levels} levels. Pass the integer images, unscaled; or build a flow with "
            "quantization_levels=None for real-valued data."
        )
    if x.min() < 0 or x.max() >= levels:
        raise ValueError(
            f"{argument} has values from {x.min()} to {x.max()}; wanted integers 0 .. {levels - 1}. Set the flow's "
            "quantization_levels to the number of levels of your data."
        )
    return x


def labels(
    y, head: keras.layers.Layer, rows: int | None = None, argument: str = "y", x_argument: str = "x"
) -> np.ndarray:
    """Checks y as `check_labels` does, and converts it to the shape and dtype of the head's response.

    Args:
      y: The responses, `(n, *event_shape)`; `(n, 1)` is accepted for `(n,)`.
      head: A `Head`.
      rows: The number of rows of x, if known.
      argument: The name of y in error messages.
      x_argument: The name of x in error messages.

    Returns:
      The responses, `(n, *event_shape)`.

    Raises:
      ValueError: As `check_labels`.
    """
    y = check_labels(y, head, rows, argument, x_argument)
    with tf.device("CPU"):
        return head.prepare_labels(y).numpy()


def check_labels(
    y, head: keras.layers.Layer, rows: int | None = None, argument: str = "y", x_argument: str = "x"
) -> np.ndarray:
    """Checks that y holds one label for each row of x, and that `head` accepts all of them.

    Args:
      y: The responses, `(n, *event_shape)`.
      head: A `Head`.
      rows: The number of rows of x, if known.
      argument: The name of y in error messages.
      x_argument: The name of x in error messages.

    Returns:
      y as an array of its own dtype.

    Raises:
      ValueError: If y is missing, has another number of rows, or has a label that the head does not accept.
    """
    if y is None:
        raise ValueError(f"{argument} is missing; wanted responses for the head {head.name!r}.")
    y = unmasked(y, argument)
    if y.ndim == 0:
        raise ValueError(f"{argument} is {y}; wanted an array of shape {('n', *head.event_shape)}.")
    if rows is not None and len(y) != rows:
        raise ValueError(f"{argument} has {len(y)} rows but {x_argument} has {rows}; they must match.")
    try:
        head.check_labels(y)
        head.prepare_labels(y[:1])
    except ValueError as error:
        raise ValueError(re.sub("^y ", f"{argument} ", str(error))) from None
    if not head.integer_labels:
        _check_magnitude(np.nan_to_num(y), head.variable_dtype, argument)
    return y


def sample_weights(weights, rows: int, argument: str = "sample_weight", x_argument: str = "x") -> np.ndarray:
    """Checks that each row has a weight, a finite number >= 0.

    Args:
      weights: The weights, `(rows,)`; `(rows, 1)` is accepted as well.
      rows: The number of rows of x.
      argument: The name of the weights in error messages.
      x_argument: The name of x in error messages.

    Returns:
      The weights, `(rows,)`, float32.

    Raises:
      ValueError: If the number of weights differs from that of the rows, or if a weight is negative or not finite.
    """
    if not hasattr(weights, "__len__") or isinstance(weights, (str, bytes, dict)):
        raise ValueError(f"{argument} is {weights!r}; wanted an array of shape ({rows},).")
    weights = unmasked(weights, argument)
    if weights.ndim == 2 and weights.shape[1] == 1:
        weights = weights[:, 0]
    if weights.ndim != 1:
        raise ValueError(f"{argument} has shape {weights.shape}; wanted ({rows},).")
    if len(weights) != rows:
        raise ValueError(f"{argument} has {len(weights)} rows but {x_argument} has {rows}; they must match.")
    if not (np.issubdtype(weights.dtype, np.number) or weights.dtype == bool) or np.iscomplexobj(weights):
        raise ValueError(f"{argument} has dtype {weights.dtype}; wanted numbers >= 0.")
    _check_finite(weights, argument)
    if (weights < 0).any():
        index = int(np.flatnonzero(weights < 0)[0])
        raise ValueError(f"{argument} holds {weights[index]} at index {index}; wanted numbers >= 0.")
    _check_magnitude(weights, "float32", argument)
    return weights.astype("float32")


def class_weights(weights: dict, head: keras.layers.Layer) -> np.ndarray:
    """Converts the argument `class_weight` of `fit` to an array.

    Args:
      weights: A dictionary from each class, 0 .. K-1, to its weight.
      head: A `Head`.

    Returns:
      The weights of the classes, `(K,)`, float32.

    Raises:
      ValueError: If the head is not a classifier with one label per row, if a class is missing or unknown, or if a
        weight is negative or not finite.
    """
    count = head.num_classes
    if count is None:
        raise ValueError(f"class_weight is {weights!r}, but the head {type(head).__name__} has no classes to weight.")
    if not isinstance(weights, dict):
        raise ValueError(f"class_weight is {weights!r}; wanted a dict from each class, 0 .. {count - 1}, to a weight.")
    unknown = [key for key in weights if not isinstance(key, numbers.Real) or key not in range(count)]
    missing = [label for label in range(count) if label not in weights]
    if unknown or missing:
        found = f"has the key {unknown[0]!r}" if unknown else f"lacks the class {missing[0]}"
        raise ValueError(f"class_weight {found}; wanted a weight for each class, 0 .. {count - 1}.")
    limit = _magnitude_limit("float32")
    for label, weight in weights.items():
        if not isinstance(weight, numbers.Real) or not 0 <= weight < limit:
            raise ValueError(
                f"class_weight of class {label} is {weight!r}; wanted a finite number >= 0 and below {limit:.2g}."
            )
    return np.array([weights[label] for label in range(count)], "float32")


def unmasked(values, argument: str) -> np.ndarray:
    """Converts `values` to an array.

    Raises:
      ValueError: If `values` has masked entries or cannot be converted; `argument` is its name in the message.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        index = np.argwhere(np.ma.getmaskarray(values))[0].tolist()
        raise ValueError(f"{argument} is masked at index {index}; wanted no masked entry. Remove or fill such rows.")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, NotImplementedError) as error:  # rows of unequal length, a symbolic tensor
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{argument} is a {type(values).__name__} that cannot be converted to an array: {reason}"
        ) from None


def reals(values, argument: str) -> np.ndarray:
    """Converts `values` to a float64 array.

    Raises:
      ValueError: If `values` is not an array of real numbers; `argument` is its name in the message.
    """
    values = unmasked(values, argument)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{argument} has dtype {values.dtype}; wanted real numbers.")
    return values.astype(float)


def _check_finite(values, argument, remedy=""):
    if not np.isfinite(values).all():
        index = np.argwhere(~np.isfinite(values))[0].tolist()
        raise ValueError(f"{argument} holds {values[tuple(index)]} at index {index}; wanted finite numbers.{remedy}")


def _check_magnitude(values, dtype, argument):
    """Raises ValueError for numbers whose squares overflow in `dtype`."""
    limit = _magnitude_limit(dtype)
    if values.size and max(abs(float(values.max())), abs(float(values.min()))) >= limit:
        index = np.argwhere(np.abs(values.astype(float)) >= limit)[0].tolist()
        raise ValueError(
            f"{argument} holds {values[tuple(index)]:g} at index {index}; wanted magnitudes below {limit:.2g}, so that "
            "their squares are finite. Remove such rows, or rescale the data."
        )


def _magnitude_limit(dtype):
    return math.sqrt(float(np.finfo(np.dtype(getattr(dtype, "name", dtype))).max))
