"""`RandomAffine`: augments integer images."""

import dataclasses
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments


@keras.saving.register_keras_serializable(package="tfp_hybrid")
@dataclasses.dataclass(frozen=True)
class RandomAffine:
    """Random affine transformations of a random subset of images.

    Pixels are interpolated bilinearly and rounded to integers.

    Attributes:
      levels: Number of integer levels.
      fraction: Expected fraction of the images to transform. The others are unchanged, so that the density also learns
        the original images.
      shift: Maximum translation in pixels.
      degrees: Maximum rotation in degrees.
      zoom: Maximum relative change of size.
      shear: Maximum shear.

    Raises:
      ValueError: If an attribute is not such a number.
    """

    levels: int
    fraction: float = 0.75
    shift: float = 0.7
    degrees: float = 10.0
    zoom: float = 0.1
    shear: float = 0.1

    def __post_init__(self):
        arguments.check_count(self.levels, "levels", 2)
        for name in ("fraction", "shift", "degrees", "zoom", "shear"):
            arguments.check_number(getattr(self, name), name, 0)
        if self.fraction > 1:
            raise ValueError(f"fraction is {self.fraction!r}; wanted at most 1.")

    supports_jit: ClassVar[bool] = False  # XLA has no operation for it

    def __call__(self, images, seed=None) -> tf.Tensor:
        """Returns the images, with the same shape and dtype.

        Args:
          images: Integers 0 ... levels - 1, `(n, H, W, C)`.
          seed: Random seed, two integers of shape (2,). None draws a new seed.
        """
        n = tf.shape(images)[0]
        height, width = images.shape[1:3]
        if seed is None:
            seed = tf.random.uniform((2,), maxval=tf.int64.max, dtype=tf.int64)
        bounds = (np.deg2rad(self.degrees), self.shear, self.zoom, self.zoom, self.shift, self.shift)
        chosen_seed, seed = tf.unstack(tf.random.split(seed))
        drawn = tf.constant(bounds, tf.float32)[:, tf.newaxis] * tf.random.stateless_uniform((6, n), seed, -1.0, 1.0)
        angle, sheared, zoom_y, zoom_x, shift_x, shift_y = tf.unstack(drawn)
        scale_y, scale_x = 1.0 + zoom_y, 1.0 + zoom_x
        # Rows of the affine map from output pixels to input pixels, about the centre of the image.
        a, b = tf.cos(angle) * scale_x, (sheared - tf.sin(angle)) * scale_x
        c, d = (sheared + tf.sin(angle)) * scale_y, tf.cos(angle) * scale_y
        centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
        move_x = centre_x - a * centre_x - b * centre_y + shift_x
        move_y = centre_y - c * centre_x - d * centre_y + shift_y
        zeros = tf.zeros_like(a)
        transforms = tf.stack([a, b, move_x, c, d, move_y, zeros, zeros], axis=1)
        moved = keras.ops.image.affine_transform(
            tf.cast(images, tf.float32), transforms, interpolation="bilinear", data_format="channels_last"
        )
        moved = tf.cast(tf.clip_by_value(tf.round(moved), 0, self.levels - 1), images.dtype)
        chosen = tf.random.stateless_uniform((n, 1, 1, 1), chosen_seed) < self.fraction
        return tf.where(chosen, moved, images)

    def stronger(self, factor: float) -> "RandomAffine":
        """Returns such transformations of all images, with bounds `factor` > 0 times as large."""
        arguments.check_number(factor, "factor", 0, open=True)
        bounds = {name: factor * getattr(self, name) for name in ("shift", "degrees", "zoom", "shear")}
        return dataclasses.replace(self, fraction=1.0, **bounds)

    def get_config(self) -> dict:
        """Returns the attributes, for a saved model."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict):
        """Returns the transformations with these attributes."""
        return cls(**config)
