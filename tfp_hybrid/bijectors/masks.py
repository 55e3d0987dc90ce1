"""Masks of couplings, which split a value into the part that passes through and the part that is transformed."""

import numpy as np
import tensorflow as tf

from tfp_hybrid import _compat


class ChannelMask:
    """One half of the last axis passes through (features of a vector, channels of an image).

    Args:
      event_shape: `(d,)` with d >= 2, or `(H, W, C)` with C >= 2.
      swap: Whether the second half passes through, instead of the first.
      dtype: Ignored.
      owner: The name of the coupling in error messages.

    Attributes:
      passing_shape: The shape of the part that passes through, as the conditioner receives it.
      num_transformed: The number of transformed entries on the last axis.

    Raises:
      ValueError: If the last axis has fewer than 2 entries.
    """

    def __init__(self, event_shape: tuple, swap: bool, dtype: str, owner: str):
        if event_shape[-1] < 2:
            raise ValueError(
                f"{owner}: `event_shape` is {event_shape}; wanted at least 2 entries on the last axis, of which a "
                "coupling passes one part through and transforms the other. For one-dimensional data, use a scalar "
                "bijector, such as ActNorm or Spline. For one-channel images, use a Squeeze first, or "
                "mask='checkerboard'."
            )
        self._swap, self._first = bool(swap), event_shape[-1] // 2
        sizes = self._first, event_shape[-1] - self._first
        self.passing_shape, self.num_transformed = (*event_shape[:-1], sizes[self._swap]), sizes[not self._swap]

    def split(self, value) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the part that passes through and the part that is transformed."""
        parts = split_last(value, self._first)
        return parts[self._swap], parts[not self._swap]

    def join(self, passing, transformed) -> tf.Tensor:
        """Returns the value that `split` splits into these parts."""
        return tf.concat((transformed, passing) if self._swap else (passing, transformed), axis=-1)

    def of_transformed(self, raw) -> tf.Tensor:
        """Returns the raw parameters with zeros at entries that pass through; here there are none."""
        return raw


class CheckerboardMask:
    """Every other pixel of an image passes through, as in RealNVP; both parts keep the image's shape, with zeros.

    Args:
      event_shape: `(H, W, C)`, with at least two pixels.
      swap: Whether the other pixels pass through.
      dtype: The dtype of the values.
      owner: The name of the coupling in error messages.

    Attributes:
      passing_shape: The shape of the image.
      num_transformed: The number of channels, since a transformed pixel has all of them.

    Raises:
      ValueError: If the event is not an image of at least two pixels.
    """

    def __init__(self, event_shape: tuple, swap: bool, dtype: str, owner: str):
        if len(event_shape) != 3 or event_shape[0] * event_shape[1] < 2:
            raise ValueError(
                f"{owner}: `event_shape` is {event_shape}; wanted an image (H, W, C) of at least two pixels for "
                "mask='checkerboard'."
            )
        rows, columns = np.indices(event_shape[:2])
        self._passing = ((rows + columns + swap) % 2 == 0).astype(dtype)[..., np.newaxis]
        self._transformed = 1 - self._passing
        self.passing_shape, self.num_transformed = event_shape, event_shape[-1]

    def split(self, value) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the part that passes through and the part that is transformed."""
        return value * self._passing, value * self._transformed

    def join(self, passing, transformed) -> tf.Tensor:
        """Returns the value that `split` splits into these parts; transformed zeros are dropped."""
        return passing + transformed * self._transformed

    def of_transformed(self, raw) -> tf.Tensor:
        """Returns the raw parameters with zeros, which are the identity map, at pixels that pass through."""
        return raw * self._transformed


MASKS = {"channel": ChannelMask, "checkerboard": CheckerboardMask}


def make_mask(name: str, event_shape: tuple, swap: bool, dtype: str, owner: str) -> ChannelMask | CheckerboardMask:
    """Builds the mask named `name`.

    Raises:
      ValueError: If `name` is unknown, or if the event cannot be split.
    """
    if name not in MASKS:
        raise ValueError(f"{owner}: `mask` is {name!r}; wanted one of {tuple(MASKS)}.")
    if len(event_shape) not in (1, 3):
        raise ValueError(f"{owner}: `event_shape` is {event_shape}; wanted (d,) for vectors or (H, W, C) for images.")
    return MASKS[name](event_shape, swap, dtype, owner)


def split_last(value, first: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Splits the last axis after `first` entries; faster than `tf.split` for the few channels of an image."""

    @_compat.custom_gradient
    def function(value):
        rows, outer = tf.reshape(value, [-1, value.shape[-1]]), tf.shape(value)[:-1]
        columns = rows[:, :first], rows[:, first:]
        parts = (tf.reshape(part, tf.concat([outer, part.shape[-1:]], 0)) for part in columns)
        return tuple(parts), lambda *gradients: tf.concat(gradients, axis=-1)

    return function(value)
