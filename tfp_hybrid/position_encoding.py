"""`AppendPosition`: where on a map a vector is, as more entries of it."""

import numbers

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class AppendPosition(layers.Layer):
    """Appends an encoding of its position to each vector of a map, `(n, H, W, c) -> (n, H, W, c + size)`.

    A quarter of the entries each are sin(pi 2^k r), cos(pi 2^k r), sin(pi 2^k s) and cos(pi 2^k s), for k = 0, 1, ...,
    with r = (i + 1/2) / H for row i, and s the same for the column.

    Args:
      size: The number of entries of the encoding, a multiple of 4.
      **kwargs: Passed to `keras.layers.Layer`.

    Raises:
      ValueError: If `size` is not a positive multiple of 4.
    """

    def __init__(self, size: int = 16, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(size, numbers.Integral) or size < 4 or size % 4:
            raise ValueError(f"AppendPosition: `size` is {size}; wanted a multiple of 4, at least 4.")
        self.size = int(size)

    def call(self, x):
        height, width = x.shape[-3:-1]
        angles = [
            np.pi * (np.arange(n) + 0.5)[:, np.newaxis] / n * 2.0 ** np.arange(self.size // 4) for n in (height, width)
        ]
        rows, columns = (np.concatenate([np.sin(angle), np.cos(angle)], axis=-1) for angle in angles)
        shape = (height, width, self.size // 2)
        encoding = np.concatenate(
            [np.broadcast_to(rows[:, np.newaxis], shape), np.broadcast_to(columns, shape)], axis=-1
        )
        encoding = ops.convert_to_tensor(encoding, x.dtype)
        return ops.concatenate([x, ops.broadcast_to(encoding, (*ops.shape(x)[:-1], self.size))], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + self.size)

    def get_config(self):
        return super().get_config() | {"size": self.size}
