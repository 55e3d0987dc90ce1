"""`MADE`, a network whose outputs for an entry see only the entries before it."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers

from tfp_hybrid.arguments import as_shape, check_count


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class MaskedDense(layers.Dense):
    """A dense layer of which each output sees some of the inputs.

    Args:
      inputs: The degree of each input, `(d,)`.
      outputs: The degree of each output, `(units,)`; it sees inputs of at most its degree.
      **kwargs: Passed to `keras.layers.Dense`.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], **kwargs):
        super().__init__(len(outputs), **kwargs)
        self.degrees = tuple(map(int, inputs)), tuple(map(int, outputs))
        self.mask = np.asarray(outputs) >= np.asarray(inputs)[:, np.newaxis]

    def call(self, inputs):
        x = keras.ops.matmul(inputs, self.kernel * keras.ops.cast(self.mask, self.compute_dtype))
        if self.use_bias:
            x = keras.ops.add(x, self.bias)  # unlike `+`, which TensorFlow does not fuse with the product
        return x if self.activation is None else self.activation(x)

    def get_config(self):
        config = super().get_config()
        del config["units"]
        return config | {"inputs": self.degrees[0], "outputs": self.degrees[1]}


def MADE(
    entries: Sequence[int],
    size: int,
    hidden_units: Sequence[int] = (64, 64),
    activation: str | Callable | None = "relu",
    reverse: bool = False,
    condition_size: int = 0,
    kernel_regularizer: str | keras.Regularizer | None = None,
    dtype: str | keras.DTypePolicy | None = None,
) -> keras.Model:
    """Builds an autoregressive conditioner: one pass gives the parameters of all entries.

    Args:
      entries: The entry of x, 0 .. size-1, that each output is a parameter of, `(units,)`.
      size: d, the number of entries of x.
      hidden_units: The sizes of the hidden layers.
      activation: The activation of the hidden layers; any Keras activation.
      reverse: Whether the outputs of an entry see those after it, instead of those before it.
      condition_size: k, the number of inputs after x that all outputs see.
      kernel_regularizer: The regularizer of every kernel; any Keras regularizer.
      dtype: A Keras dtype policy; the global policy if None.

    Returns:
      A built model, `(n, d + k) -> (n, units)`, whose outputs start at zero.

    Raises:
      ValueError: If `entries` are not entries of x, or if a size is no whole number or too small.

    References:
      Germain, Gregor, Murray and Larochelle 2015, "MADE: Masked Autoencoder for Distribution Estimation", section 3.
    """
    check_count(size, "MADE: `size`")
    check_count(condition_size, "MADE: `condition_size`", least=0)
    hidden_units = as_shape(hidden_units, "MADE: `hidden_units`")
    if np.asarray(entries).ndim != 1 or not np.isin(entries, np.arange(size)).all() or not len(entries):
        raise ValueError(f"MADE: `entries` is {entries!r}; wanted an entry of x for each output, 0 .. {size - 1}.")
    entries = np.asarray(entries).astype(int)
    order = np.arange(size)[::-1] if reverse else np.arange(size)
    options = dict(kernel_regularizer=kernel_regularizer, dtype=dtype)
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    # Degree -1 is that of the condition, which also the outputs of the first entry see.
    first = -1 if condition_size else 0
    stack = [layers.Input((size + condition_size,), dtype=policy.compute_dtype)]
    degrees = np.append(order, [first] * condition_size).astype(int)
    for width in hidden_units:
        # The last entry is seen by no output, so that no unit needs its degree.
        following = first + np.arange(width) % max(1, size - 1 - first)
        stack.append(MaskedDense(degrees, following, activation=activation, **options))
        degrees = following
    # Strictly before.
    stack.append(MaskedDense(degrees, order[entries] - 1, kernel_initializer="zeros", **options))
    return keras.Sequential(stack)
