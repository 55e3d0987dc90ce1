"""Conditions of flows: which one the parts of a flow take, and how a network sees it beside its input."""

import numbers

import numpy as np
import tensorflow as tf

from tfp_hybrid import _compat
from tfp_hybrid.bijectors.base import FusedBijector


def shape_of_all(parts, owner: str) -> tf.TensorShape | None:
    """Returns the shape of the condition that bijectors or distributions take; None if they take none.

    Args:
      parts: Bijectors, or distributions of flows.
      owner: What they are parts of, in error messages.

    Raises:
      ValueError: If they take conditions of different shapes.
    """
    found = {tuple(shape) for part in parts for shape in _shapes(part)}
    if len(found) > 1:
        raise ValueError(f"{owner}: parts take conditions of the shapes {sorted(found)}; wanted one shape for all.")
    return tf.TensorShape(found.pop()) if found else None


def _shapes(part):
    """The shapes of the conditions that reach the parts of a chain, of an inverse, or of a distribution."""
    if isinstance(part, FusedBijector):
        return [] if part.condition_shape is None else [part.condition_shape]
    inside = _compat.parts_of_chain(part) or [getattr(part, name, None) for name in ("bijector", "distribution")]
    return [shape for one in inside if one is not None for shape in _shapes(one)]


def checked_shape(shape, event_shape, owner: str) -> tuple[int, ...] | None:
    """Returns the shape of a condition as a tuple.

    Args:
      shape: A number k or `(k,)`; for images also `(H, W, k)`; None for no condition.
      event_shape: The shape of the events of the flow, `(d,)` or `(H, W, C)`.
      owner: The name of the flow in error messages.

    Raises:
      ValueError: If the shape is none of these.
    """
    if shape is None:
        return None
    found = tuple(np.atleast_1d(np.asarray(shape, object)))
    good = all(isinstance(size, numbers.Integral) and size > 0 for size in found)
    image = len(event_shape) == 3
    if not good or not (len(found) == 1 or (image and len(found) == 3)):
        wanted = "(k,) or, for images, (H, W, k)" if image else "(k,)"
        raise ValueError(f"{owner}: `condition_shape` is {shape!r}; wanted {wanted}.")
    return tuple(map(int, found))


def appended_shape(input_shape: tuple, condition_shape: tuple | None, owner: str) -> tuple[int, ...]:
    """Returns the shape of the input of a network with the condition on its last axis; see `append`.

    Raises:
      ValueError: If the condition is a map whose sides are no multiple of those of the input.
    """
    if condition_shape is None:
        return tuple(input_shape)
    *sides, channels = input_shape
    if len(condition_shape) == 1:
        return (*sides, channels + condition_shape[0])
    factors = [given / side for given, side in zip(condition_shape, sides, strict=False)]
    if factors[0] != factors[1] or factors[0] != int(factors[0]):
        raise ValueError(
            f"{owner}: `condition_shape` is {condition_shape}, but the networks see images of {tuple(sides)}; wanted "
            "sides that are the same multiple of these."
        )
    return (*sides, channels + condition_shape[-1] * int(factors[0]) ** 2)


def append(value, condition, event_ndims: int) -> tf.Tensor:
    """Appends a condition to the input of a network, on the last axis.

    Args:
      value: `batch_shape + (d,)` or `batch_shape + (h, w, c)`.
      condition: `batch_shape + (k,)`, which each position of an image gets; or a map `batch_shape + (H, W, k)`, which
        is brought to the sides of the image by space-to-depth. None appends nothing.
      event_ndims: The rank of an event: 1 for vectors, whose batch may be of any rank, or 3 for images.

    Returns:
      The value with more entries on the last axis.
    """
    if condition is None:
        return value
    condition = tf.cast(condition, value.dtype)
    if condition.shape.rank < value.shape.rank:
        condition = condition[..., tf.newaxis, tf.newaxis, :]
        condition = tf.broadcast_to(condition, tf.concat([tf.shape(value)[:-1], tf.shape(condition)[-1:]], 0))
    elif event_ndims > 1 and condition.shape[-2] != value.shape[-2]:
        factor = condition.shape[-2] // value.shape[-2]
        maps = tf.nn.space_to_depth(tf.reshape(condition, [-1, *condition.shape[-3:]]), factor)
        condition = tf.reshape(maps, tf.concat([tf.shape(value)[:-1], maps.shape[-1:]], 0))
    return tf.concat([value, condition], -1)
