"""Checks of encoders, Keras models whose outputs are the features that a flow models, and of their outputs."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.models import input_spec

tfd = tfp.distributions


def check_encoder(encoder, distribution: tfd.Distribution, name: str):
    """Checks that an encoder maps one input to features that `distribution` is a density of.

    Args:
      encoder: A Keras model.
      distribution: The distribution of the features.
      name: The model's name in error messages.

    Raises:
      ValueError: If `encoder` is not a Keras model with one input of numbers and one output, each of known shape; or if
        the output does not fit the distribution.
    """
    if not isinstance(encoder, keras.Model):
        raise ValueError(
            f"{name}: `encoder` is {encoder!r}; wanted a Keras model, such as one of `keras.applications` with "
            'include_top=False and pooling="avg".'
        )
    if not getattr(encoder, "inputs", None) or not getattr(encoder, "outputs", None):
        raise ValueError(
            f"{name}: `encoder` {encoder.name!r} is not built or does not say its shapes; wanted a functional or "
            "Sequential model with an input, such as `keras.Model(inputs := keras.Input(shape), encoder(inputs))`."
        )
    for what, tensors in (("inputs", encoder.inputs), ("outputs", encoder.outputs)):
        if len(tensors) != 1:
            raise ValueError(f"{name}: `encoder` {encoder.name!r} has {len(tensors)} {what}; wanted one.")
    if isinstance(encoder.compute_output_shape(encoder.inputs[0].shape), dict):
        raise ValueError(f"{name}: `encoder` {encoder.name!r} has a dictionary as its output; wanted a tensor.")
    taken, shape = encoder.inputs[0], tuple(encoder.outputs[0].shape[1:])
    dtype = tf.as_dtype(taken.dtype)
    if not (dtype.is_floating or dtype.is_integer):
        raise ValueError(f"{name}: `encoder` {encoder.name!r} takes inputs of dtype {dtype.name}; wanted numbers.")
    if shape != tuple(distribution.event_shape):
        unknown = " Make it with a fixed input_shape." if None in shape else ""
        raise ValueError(
            f"{name}: `encoder` {encoder.name!r} has outputs of shape {('n', *shape)}, but `distribution` has the "
            f"event shape {tuple(distribution.event_shape)}; they must be the same.{unknown}"
        )
    if input_spec.of_distribution(distribution).levels is not None:
        raise ValueError(
            f"{name}: `distribution` dequantizes integers, but the features of `encoder` are real numbers; wanted a "
            "flow with quantization_levels=None."
        )


def check_features(features, first_row: int = 0):
    """Checks that an encoder's outputs can be trained on.

    Args:
      features: The outputs, `(n, *event_shape)`.
      first_row: The number of their first row in x.

    Raises:
      ValueError: If a feature is NaN or so large that its square is not finite; the message gives the rows.
    """
    features = np.asarray(features)
    with np.errstate(invalid="ignore"):
        good = np.abs(features) < np.sqrt(np.finfo(features.dtype).max)
    bad = np.flatnonzero(~good.reshape(len(good), -1).all(axis=1)) + first_row
    if len(bad):
        which = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise ValueError(
            f"encoder: its outputs are NaN or too large for {len(bad)} rows of x: {which}; wanted finite features. "
            "Check the range of x that the encoder was trained on, and its weights."
        )
