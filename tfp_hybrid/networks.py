"""Conditioners: Keras models that compute the parameters of a coupling.

A conditioner maps the part of the input that a coupling passes through to the raw parameters for the part that it
transforms, on the last axis. Couplings and their builders take a function `(input_shape, units) -> keras.layers.Layer`.
The functions in this module have that form once their options are set with `functools.partial`; you can also pass your
own. (`MADE` is for `MaskedAutoregressive`, whose conditioner takes the whole input.) The last layer of each network is
initialized to zero, so that a coupling starts as the identity map. Under a mixed precision policy, the networks compute
in 16 bits.
"""

import math
from collections.abc import Callable, Sequence

import keras
from keras import layers

from tfp_hybrid.convolution import CouplingConv2D
from tfp_hybrid.made import MADE
from tfp_hybrid.position_encoding import AppendPosition

__all__ = ["ConvNet", "CosSin", "MADE", "MLP", "MapMLP", "OfAngles", "PositionMLP", "ResNet", "ShiftAndLogScale"]


def MLP(
    input_shape: Sequence[int],
    units: int,
    hidden_units: Sequence[int] = (64, 64),
    activation: str | Callable | None = "relu",
    dropout: float = 0.0,
    kernel_regularizer: str | keras.Regularizer | None = None,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Builds a fully connected conditioner for vectors.

    Args:
      input_shape: `(d,)`, without the batch axis.
      units: The size of the output.
      hidden_units: The sizes of the hidden layers.
      activation: The activation of the hidden layers; any Keras activation.
      dropout: The dropout rate after each hidden layer during training.
      kernel_regularizer: The regularizer of every kernel; any Keras regularizer.
      dtype: A Keras dtype policy; the global policy if None.

    Returns:
      A built model, `(..., d) -> (..., units)`.
    """
    inputs = layers.Input(tuple(input_shape), dtype=_input_dtype(dtype))
    return keras.Sequential([inputs, *_dense(units, hidden_units, activation, dropout, kernel_regularizer, dtype)])


def MapMLP(
    input_shape: Sequence[int],
    units: int,
    hidden_units: Sequence[int] = (256, 256),
    activation: str | Callable | None = "relu",
    dropout: float = 0.0,
    kernel_regularizer: str | keras.Regularizer | None = None,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Builds a fully connected conditioner for maps, every output of which sees every position.

    Its weights grow with the size of the map: it is for small images, or for the coarse level of a flow.

    Args:
      input_shape: `(H, W, c)`, without the batch axis.
      units: The number of channels of the output.
      hidden_units: The sizes of the hidden layers.
      activation: The activation of the hidden layers; any Keras activation.
      dropout: The dropout rate after each hidden layer during training.
      kernel_regularizer: The regularizer of every kernel; any Keras regularizer.
      dtype: A Keras dtype policy; the global policy if None.

    Returns:
      A built model, `(n, H, W, c) -> (n, H, W, units)`.
    """
    shape = (*input_shape[:-1], units)
    dense = _dense(math.prod(shape), hidden_units, activation, dropout, kernel_regularizer, dtype)
    inputs = layers.Input(tuple(input_shape), dtype=_input_dtype(dtype))
    return keras.Sequential([inputs, layers.Flatten(dtype=dtype), *dense, layers.Reshape(shape, dtype=dtype)])


def PositionMLP(
    input_shape: Sequence[int],
    units: int,
    positions: tuple[int, int],
    encoding_size: int = 16,
    hidden_units: Sequence[int] = (64, 64),
    activation: str | Callable | None = "relu",
    dropout: float = 0.0,
    kernel_regularizer: str | keras.Regularizer | None = None,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Builds a conditioner for the vectors of a map, the same network at each position, with the position as an input.

    Args:
      input_shape: `(c,)`, of one vector.
      units: The size of the output.
      positions: The numbers of rows and columns of the map, `(H, W)`.
      encoding_size: How many numbers encode a position, a multiple of 4; see `AppendPosition`.
      hidden_units: The sizes of the hidden layers.
      activation: The activation of the hidden layers; any Keras activation.
      dropout: The dropout rate after each hidden layer during training.
      kernel_regularizer: The regularizer of every kernel; any Keras regularizer.
      dtype: A Keras dtype policy; the global policy if None.

    Returns:
      A built model, `(n, H, W, c) -> (n, H, W, units)`, in which no position sees another one.

    References:
      Gudovskiy, Ishizaka and Kozuka 2022, "CFLOW-AD", section 3.3, where the position is the condition of a flow.
    """
    if len(input_shape) != 1:
        raise ValueError(f"PositionMLP: `input_shape` is {tuple(input_shape)}; wanted (c,), for a flow of vectors.")
    if not isinstance(positions, Sequence) or len(positions) != 2 or min(positions) < 1:
        raise ValueError(f"PositionMLP: `positions` is {positions!r}; wanted (H, W), the size of the map.")
    (channels,) = input_shape
    inputs = layers.Input((*positions, channels), dtype=_input_dtype(dtype))
    dense = _dense(units, hidden_units, activation, dropout, kernel_regularizer, dtype)
    return keras.Sequential([inputs, AppendPosition(encoding_size, dtype=dtype), *dense])


def ConvNet(
    input_shape: Sequence[int],
    units: int,
    hidden_units: int = 64,
    activation: str | Callable | None = "relu",
    dropout: float = 0.0,
    kernel_regularizer: str | keras.Regularizer | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    encoding_size: int = 0,
) -> keras.Model:
    """Builds a convolutional conditioner for images, as in Glow, with kernels of 3x3, 1x1 and 3x3.

    Args:
      input_shape: `(H, W, c)`, without the batch axis.
      units: The number of channels of the output.
      hidden_units: The number of channels of the two hidden layers.
      activation: The activation of the hidden layers; any Keras activation.
      dropout: The rate of spatial dropout (of whole channels) after each hidden layer during training.
      kernel_regularizer: The regularizer of every kernel; any Keras regularizer.
      dtype: A Keras dtype policy; the global policy if None.
      encoding_size: How many numbers encode the position of a pixel, which the first layer sees beside its channels, a
        multiple of 4; see `AppendPosition`. 0 for none. It helps where objects are centred.

    Returns:
      A built model, `(n, H, W, c) -> (n, H, W, units)`.

    References:
      Kingma and Dhariwal 2018, "Glow", section 3.3 and appendix B.
    """
    options = dict(padding="same", kernel_regularizer=kernel_regularizer, dtype=dtype)
    stack = [layers.Input(tuple(input_shape), dtype=_input_dtype(dtype))]
    if encoding_size:
        stack.append(AppendPosition(encoding_size, dtype=dtype))
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
    activation: str | Callable | None = "relu",
    dropout: float = 0.0,
    kernel_regularizer: str | keras.Regularizer | None = None,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Builds a residual conditioner, with convolutions for images, as in RealNVP, or dense layers for vectors.

    A block adds `W2 a(W1 a(h))` to its input `h`. There is no batch normalization, so the density of an image does not
    depend on the other images in its batch.

    Args:
      input_shape: `(H, W, c)` or `(d,)`, without the batch axis.
      units: The size of the last axis of the output.
      hidden_units: The width of the residual stream.
      blocks: The number of residual blocks.
      activation: The activation a; any Keras activation.
      dropout: The dropout rate inside each block during training.
      kernel_regularizer: The regularizer of every kernel; any Keras regularizer.
      dtype: A Keras dtype policy; the global policy if None.

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


def OfAngles(
    input_shape: Sequence[int],
    units: int,
    network: Callable = ResNet,
    dtype: str | keras.DTypePolicy | None = None,
    others: int = 0,
) -> keras.Model:
    """Builds a conditioner of angles in radians: another one, which sees cos and sin of each.

    So what it computes does not jump where an angle passes from pi to -pi.

    Args:
      input_shape: `(..., d)`, without the batch axis.
      units: The size of the output.
      network: A function `(input_shape, units) -> keras layer`, called with the shape `(..., 2 d)`.
      dtype: A Keras dtype policy for cos and sin; the global policy if None.
      others: The last entries of the input that are no angles, such as a condition; the network sees them as they are.

    Returns:
      A built model, `(n, ..., d) -> (n, ..., units)`.

    References:
      Rezende et al. 2020, "Normalizing Flows on Tori and Spheres", section 2.2.
    """
    *outer, size = input_shape
    angles = layers.Input(tuple(input_shape), dtype=_input_dtype(dtype))
    return keras.Sequential([angles, CosSin(others, dtype=dtype), network((*outer, 2 * size - others), units)])


def _dense(units, hidden_units, activation, dropout, kernel_regularizer, dtype):
    options = dict(kernel_regularizer=kernel_regularizer, dtype=dtype)
    stack = []
    for width in hidden_units:
        stack.append(layers.Dense(width, activation, **options))
        if dropout:
            stack.append(layers.Dropout(dropout, dtype=dtype))
    return [*stack, layers.Dense(units, kernel_initializer="zeros", **options)]


def _input_dtype(dtype):
    return keras.dtype_policies.get(dtype or keras.config.dtype_policy()).compute_dtype


def policy_for(dtype: str) -> keras.DTypePolicy:
    """Returns the dtype policy for the conditioners of a flow.

    Args:
      dtype: The dtype of the flow.

    Returns:
      The global policy if its variables have this dtype, so that a float32 flow follows a mixed precision policy; or
      else the policy that computes in this dtype.
    """
    policy = keras.config.dtype_policy()
    return policy if policy.variable_dtype == dtype else keras.DTypePolicy(dtype)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class ShiftAndLogScale(layers.Layer):
    """Adapts a Keras network to the argument `shift_and_log_scale_fn` of TFP's `tfb.RealNVP`.

    TFP calls the layer with the part of the input that passes through and with the number of units to transform. The
    output of the network is split into the shift and the log-scale.

    Args:
      network: A Keras layer or model, `(n, d) -> (n, 2 * units)`.
      **kwargs: Passed to `keras.layers.Layer`.

    Example:

    >>> network = keras.Sequential([keras.layers.Dense(64, "tanh"), keras.layers.Dense(2 * 2)])
    >>> flow = tfb.RealNVP(num_masked=2, shift_and_log_scale_fn=ShiftAndLogScale(network))  # of 4 features
    """

    def __init__(self, network: keras.layers.Layer, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def __call__(self, x, units=None, **kwargs):
        return super().__call__(x, **kwargs)  # Keras accepts only tensors as positional arguments

    def call(self, x):
        raw = self.network(keras.ops.reshape(x, (-1, x.shape[-1])))  # networks take one batch axis, TFP any number
        raw = keras.ops.reshape(raw, (*keras.ops.shape(x)[:-1], raw.shape[-1]))
        return keras.ops.split(raw, 2, axis=-1)

    def get_config(self):
        return super().get_config() | {"network": keras.saving.serialize_keras_object(self.network)}

    @classmethod
    def from_config(cls, config):
        return cls(**config | {"network": keras.saving.deserialize_keras_object(config["network"])})


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class CosSin(layers.Layer):
    """Replaces each angle in radians by its cos and sin, `(..., d) -> (..., 2 d)`: first all cos, then all sin.

    Args:
      others: The last entries that are no angles, and come last as they are.
      **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(self, others: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.others = others

    def call(self, x):
        angles, others = keras.ops.split(x, [x.shape[-1] - self.others], -1)
        return keras.ops.concatenate([keras.ops.cos(angles), keras.ops.sin(angles), others], -1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2 * input_shape[-1] - self.others)

    def get_config(self):
        return super().get_config() | {"others": self.others}
