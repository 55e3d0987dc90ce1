"""The condition of a model of p(x | c), which its flow takes beside x."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import flows

tfd = tfp.distributions

NAME = "condition"
"""The name of the condition in a dict of inputs."""

_NUMBERS = "biuf"  # kinds of dtype


def spec(distribution: tfd.Distribution) -> dict[str, tf.TensorSpec]:
    """Returns the condition of one input by its name; nothing for a distribution without one."""
    shape = flows.condition_shape(distribution)
    return {} if shape is None else {NAME: tf.TensorSpec(shape, distribution.dtype)}


def example(distribution: tfd.Distribution) -> dict[str, tf.Tensor]:
    """Returns an x of zeros, and a condition of zeros if there is one, by their names."""
    given = {"x": tf.TensorSpec(distribution.event_shape, distribution.dtype)} | spec(distribution)
    return {name: tf.zeros((1, *one.shape), one.dtype) for name, one in given.items()}


def of_draws(values, n: int, wanted: dict[str, tf.TensorSpec]):
    """Checks the condition of draws: one for all of them, or one for each; a tensor is returned as it is.

    Args:
      values: `condition_shape` or `(n, *condition_shape)`.
      n: The number of draws.
      wanted: The `spec` of the distribution, which may be empty.

    Raises:
      ValueError: If it is missing or not as above, or if the distribution takes none.
    """
    if not wanted:
        raise ValueError("sample: `condition` is given; wanted None, since the flow takes none.")
    shape = tuple(wanted[NAME].shape)
    if values is None:
        raise ValueError(f"sample: `condition` is missing; wanted an array of shape {shape}, or {(n, *shape)}.")
    if tf.is_tensor(values) and not tf.executing_eagerly():
        return values
    rows = np.asarray(values)
    if rows.dtype.kind in _NUMBERS and rows.shape not in (shape, (1, *shape), (n, *shape)):
        raise ValueError(f"sample: 'condition' has shape {rows.shape}; wanted {shape}, or {(n, *shape)} for {n} draws.")
    found = checked(rows[np.newaxis] if rows.shape == shape else rows, wanted[NAME], "sample")
    return values if tf.is_tensor(values) else found


def checked(values, wanted: tf.TensorSpec, argument: str) -> np.ndarray:
    """Checks that each row has a condition, of finite numbers.

    Args:
      values: `(n, *condition_shape)`; `(n,)` is accepted for `(n, 1)`.
      wanted: Shape and dtype of one condition.
      argument: The name of the inputs in error messages.

    Returns:
      The conditions in the dtype in which they are computed with.

    Raises:
      ValueError: If they are not as above.
    """
    values, shape = np.asarray(values), tuple(wanted.shape)
    if values.dtype.kind not in _NUMBERS:
        raise ValueError(f"{argument}: {NAME!r} has dtype {values.dtype}; wanted real numbers.")
    if values.ndim == 1 and shape == (1,):
        values = values[:, np.newaxis]
    if not values.ndim or values.shape[1:] != shape:
        raise ValueError(f"{argument}: {NAME!r} has shape {values.shape}; wanted {('n', *shape)}.")
    with np.errstate(over="ignore"):
        found = values.astype(wanted.dtype.name)
    if not np.isfinite(found).all():
        index = np.argwhere(~np.isfinite(found))[0].tolist()
        raise ValueError(
            f"{argument}: {NAME!r} holds {values[tuple(index)]} at index {index}; wanted finite numbers of "
            f"{wanted.dtype.name}."
        )
    return found
