"""Errors before any work is done: data that a model cannot be trained or evaluated on."""

import itertools
import types

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.bijectors import Dequantize


def integer_levels(distribution) -> int | None:
    """Number of integer levels that p(x) is over; None if x is continuous."""
    parts = (distribution, *distribution.submodules)
    return next((part.levels for part in parts if isinstance(part, Dequantize)), None)


def check_inputs(x, distribution, argument="x"):
    """Raises ValueError unless x is a batch of finite events of `distribution`, and integers where needed."""
    shape = tuple(distribution.event_shape)
    if not hasattr(x, "shape"):
        raise ValueError(f"{argument} is a {type(x).__name__}; wanted an array of shape {('n', *shape)}.")
    if getattr(x, "ndim", None) != len(shape) + 1 or tuple(x.shape[1:]) != shape:
        raise ValueError(
            f"{argument} has shape {tuple(np.shape(x))}; wanted {('n', *shape)}: a batch of the flow's events."
        )
    if not len(x):
        raise ValueError(f"{argument} is empty; wanted at least one row.")
    x = np.asarray(x)
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.iscomplexobj(x):
        raise ValueError(f"{argument} has dtype {x.dtype}; wanted real numbers.")
    floating = not np.issubdtype(x.dtype, np.integer) and x.dtype != bool
    if floating and not np.isfinite(x).all():
        index = np.argwhere(~np.isfinite(x))[0].tolist()
        raise ValueError(
            f"{argument} holds {x[tuple(index)]} at index {index}; wanted finite numbers. Remove or fill such rows."
        )
    levels = integer_levels(distribution)
    if levels is None:
        return
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


def check_labels(y, head, rows=None, argument="y"):
    """Raises ValueError unless y holds as many labels as there are rows, all of which `head` can take."""
    if y is None:
        raise ValueError(f"{argument} is missing; wanted the responses of the head {head.name!r}.")
    y = np.asarray(y)
    if rows is not None and len(y) != rows:
        raise ValueError(f"{argument} has {len(y)} rows and x has {rows}; wanted as many.")
    try:
        head.check_labels(y)
        head.prepare_labels(y[:1])
    except ValueError as error:
        raise ValueError(str(error).replace("y ", f"{argument} ", 1)) from None


def is_array(x) -> bool:
    """Whether x holds all rows at once; False for what Keras takes batch by batch."""
    return not isinstance(x, (tf.data.Dataset, keras.utils.PyDataset, types.GeneratorType))


def first_batch(x, y=None):
    """The first batch of any data that Keras' `fit` takes, and the data to go on with.

    Returns:
      `(x_batch, y_batch), data`. Arrays are their own first batch. A generator loses its first item by the
      look at it; `data` gives it back.
    """
    if isinstance(x, tf.data.Dataset):
        batch = next(iter(x.take(1)), None)
    elif isinstance(x, keras.utils.PyDataset):
        batch = x[0] if len(x) else None
    elif isinstance(x, types.GeneratorType):
        batch = next(x, None)
        x = (item for item in itertools.chain([batch], x))
    else:
        return (x, y), x
    if batch is None:
        raise ValueError("x is an empty data set; wanted at least one batch.")
    x_batch, y_batch, _ = keras.utils.unpack_x_y_sample_weight(batch)
    return (x_batch, y_batch), x


def check_data(x, y, model, suffix=""):
    """Checks all of the rows of arrays, the first batch of data sets; returns these rows, and the data."""
    (x_batch, y_batch), data = first_batch(x, y)
    check_inputs(x_batch, model.distribution, f"x{suffix}")
    check_labels(y_batch, model.head, len(x_batch), f"y{suffix}")
    return (np.asarray(x_batch), np.asarray(y_batch)), data
