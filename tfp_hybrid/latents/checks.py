"""Checks of arguments of latent distributions."""

import tensorflow as tf


def checked_shape(shape, owner: str) -> tf.TensorShape:
    """Returns the shape of z, known and of at least one axis.

    Raises:
      ValueError: For another shape; `owner` begins the message.
    """
    try:
        found = tf.TensorShape(shape)
        if found.rank and found.is_fully_defined() and found.num_elements():
            return found
    except (TypeError, ValueError):
        pass
    raise ValueError(f"{owner}: `shape` is {shape!r}; wanted a known shape of rank >= 1.")


def checked_dtype(dtype, owner: str) -> tf.DType:
    """Returns a floating-point dtype.

    Raises:
      ValueError: For another dtype; `owner` begins the message.
    """
    try:
        if tf.as_dtype(dtype).is_floating:
            return tf.as_dtype(dtype)
    except TypeError:
        pass
    raise ValueError(f"{owner}: `dtype` is {dtype!r}; wanted a floating-point one.")
