"""Conditioners: the Keras models that compute a coupling's shift and log-scale.

A conditioner maps the part of the input that a coupling leaves alone to the raw parameters of the part
that it transforms, on the last axis. Builders of couplings take a function
`(input_shape, units) -> keras.layers.Layer`; the functions here are such, once their options are set with
`functools.partial`, and so is any function of yours. Their last layer starts at zero, so that a coupling
starts as the identity map. Under a mixed precision policy they compute in 16 bits.
"""

from collections.abc import Sequence

import keras
from keras import layers

from tfp_hybrid.convolution import CouplingConv2D


def MLP(
    input_shape: Sequence[int],
    units: int,
    hidden_units: Sequence[int] = (64, 64),
    activation="relu",
    dropout: float = 0.0,
    kernel_regularizer=None,
    dtype=None,
) -> keras.Model:
    """Fully connected conditioner for vectors.

    Args:
      input_shape: `(d,)`, without the batch.
      units: size of the output.
      hidden_units: sizes of the hidden layers.
      activation: of the hidden layers; any Keras activation.
      dropout: rate after each hidden layer, while training.
      kernel_regularizer: of every kernel; any Keras regularizer.
      dtype: a Keras dtype policy; the global one if None.

    Returns:
      A built model, `(..., d) -> (..., units)`.
    """
    options = dict(kernel_regularizer=kernel_regularizer, dtype=dtype)
    stack = [layers.Input(tuple(input_shape), dtype=_input_dtype(dtype))]
    for width in hidden_units:
        stack.append(layers.Dense(width, activation, **options))
        if dropout:
            stack.append(layers.Dropout(dropout, dtype=dtype))
    stack.append(layers.Dense(units, kernel_initializer="zeros", **options))
    return keras.Sequential(stack)


def ConvNet(
    input_shape: Sequence[int],
    units: int,
    hidden_units: int = 64,
    activation="relu",
    dropout: float = 0.0,
    kernel_regularizer=None,
    dtype=None,
) -> keras.Model:
    """Convolutional conditioner for images, as in Glow: 3x3, 1x1, 3x3.

    Args:
      input_shape: `(H, W, c)`, without the batch.
      units: channels of the output.
      hidden_units: channels of the two hidden layers.
      activation: of the hidden layers; any Keras activation.
      dropout: rate of whole channels (spatial dropout) after each hidden layer, while training.
      kernel_regularizer: of every kernel; any Keras regularizer.
      dtype: a Keras dtype policy; the global one if None.

    Returns:
      A built model, `(n, H, W, c) -> (n, H, W, units)`.

    References:
      Kingma and Dhariwal 2018, "Glow", section 3.3 and appendix B.
    """
    options = dict(padding="same", kernel_regularizer=kernel_regularizer, dtype=dtype)
    stack = [layers.Input(tuple(input_shape), dtype=_input_dtype(dtype))]
    for size in (3, 1):
        stack.append(CouplingConv2D(hidden_units, size, activation=activation, **options))
        if dropout:
            stack.append(layers.SpatialDropout2D(dropout, dtype=dtype))
    stack.append(CouplingConv2D(units, 3, kernel_initializer="zeros", **options))
    return keras.Sequential(stack)


def ResNet(
    input_shape: Sequence[int],
    units: int,
    hidden_units: int = 64,
    blocks: int = 2,
    activation="relu",
    dropout: float = 0.0,
    kernel_regularizer=None,
    dtype=None,
) -> keras.Model:
    """Residual conditioner: for images with convolutions, as in RealNVP; for vectors with dense layers.

    A block adds `W2 a(W1 a(h))` to its input `h`; no batch normalization, so that an image's density does
    not depend on the others in its batch.

    Args:
      input_shape: `(H, W, c)` or `(d,)`, without the batch.
      units: size of the output's last axis.
      hidden_units: width of the residual stream.
      blocks: number of residual blocks.
      activation: any Keras activation.
      dropout: rate inside each block, while training.
      kernel_regularizer: of every kernel; any Keras regularizer.
      dtype: a Keras dtype policy; the global one if None.

    Returns:
      A built model, `(n, ..., c) -> (n, ..., units)`.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 3.3.
    """
    image = len(input_shape) == 3

    def linear(width, size, **options):
        options |= dict(kernel_regularizer=kernel_regularizer, dtype=dtype)
        if image:
            return CouplingConv2D(width, size, padding="same", **options)
        return layers.Dense(width, **options)

    inputs = layers.Input(tuple(input_shape), dtype=_input_dtype(dtype))
    h = linear(hidden_units, 3)(inputs)
    for _ in range(blocks):
        update = layers.Activation(activation, dtype=dtype)(h)
        update = linear(hidden_units, 3, activation=activation)(update)
        if dropout:
            update = layers.Dropout(dropout, dtype=dtype)(update)
        update = linear(hidden_units, 1)(update)
        h = layers.Add(dtype=dtype)([h, update])
    h = layers.Activation(activation, dtype=dtype)(h)
    return keras.Model(inputs, linear(units, 1, kernel_initializer="zeros")(h))


def _input_dtype(dtype):
    return keras.dtype_policies.get(dtype or keras.config.dtype_policy()).compute_dtype


def policy_for(dtype):
    """The conditioners' policy for a flow of this dtype: the global one if it computes in fewer bits."""
    policy = keras.config.dtype_policy()
    return policy if policy.variable_dtype == dtype else keras.DTypePolicy(dtype)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class ShiftAndLogScale(layers.Layer):
    """Any Keras network as the `shift_and_log_scale_fn` of TFP's own `tfb.RealNVP`.

    TFP calls it with the part that passes through and the number of units to transform; the network's output is
    split into shift and log-scale.

    Args:
      network: a Keras layer or model, `(n, d) -> (n, 2 * units)`.

    Example:

    >>> network = keras.Sequential([keras.layers.Dense(64, "tanh"), keras.layers.Dense(2 * 2)])
    >>> flow = tfb.RealNVP(num_masked=2, shift_and_log_scale_fn=ShiftAndLogScale(network))  # of 4 features
    """

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def __call__(self, x, units=None, **kwargs):
        return super().__call__(x, **kwargs)  # Keras takes only tensors by position

    def call(self, x):
        raw = self.network(keras.ops.reshape(x, (-1, x.shape[-1])))  # networks want one batch axis, TFP has any
        raw = keras.ops.reshape(raw, (*keras.ops.shape(x)[:-1], raw.shape[-1]))
        return keras.ops.split(raw, 2, axis=-1)

    def get_config(self):
        return super().get_config() | {"network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config):
        return cls(**config | {"network": keras.saving.deserialize_keras_object(config["network"])})
