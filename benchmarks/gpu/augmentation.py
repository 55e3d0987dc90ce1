"""Random affine maps of integer images with jax: as `tfp_hybrid.recipes.augmentation.RandomAffine`."""

import math

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def random_affine(key, images, fraction, shift, levels=256, degrees=10.0, zoom=0.1, shear=0.1):
    """Moves a random part of the images a little, with bilinear interpolation, rounded back to integers.

    Args:
      key: a key of `jax.random`.
      images: integers 0 .. levels-1, `(n, H, W, C)`, float32.
      fraction: of the images that are moved.
      shift: largest translation, in pixels.
      levels: number of integer values.
      degrees: largest rotation.
      zoom: largest relative change of size.
      shear: largest shear.

    Returns:
      Images of the same shape and dtype.
    """
    n, height, width, _ = images.shape
    *keys, key = jax.random.split(key, 7)
    bounds = (math.radians(degrees), shear, zoom, zoom, shift, shift)
    angle, sheared, zoom_y, zoom_x, move_x, move_y = (
        jax.random.uniform(key, (n,), jnp.float32, -bound, bound) for key, bound in zip(keys, bounds, strict=True)
    )
    scale_y, scale_x = 1.0 + zoom_y, 1.0 + zoom_x
    a, b = jnp.cos(angle) * scale_x, (sheared - jnp.sin(angle)) * scale_x
    c, d = (sheared + jnp.sin(angle)) * scale_y, jnp.cos(angle) * scale_y
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    transforms = jnp.stack(
        [
            a,
            b,
            centre_x - a * centre_x - b * centre_y + move_x,
            c,
            d,
            centre_y - c * centre_x - d * centre_y + move_y,
        ],
        axis=1,
    )
    moved = jnp.clip(jnp.round(affine(images, transforms)), 0, levels - 1).astype(images.dtype)
    chosen = jax.random.uniform(key, (n, 1, 1, 1)) < fraction
    return jnp.where(chosen, moved, images)


def affine(images, transforms):
    """Images under affine maps, zero outside.

    Args:
      images: `(n, H, W, C)`.
      transforms: `(n, 6)`: output pixel (x, y) is input pixel `(t0 x + t1 y + t2, t3 x + t4 y + t5)`.
    """
    y, x = jnp.meshgrid(*(jnp.arange(size, dtype=jnp.float32) for size in images.shape[1:3]), indexing="ij")

    def one(image, t):
        places = t[3] * x + t[4] * y + t[5], t[0] * x + t[1] * y + t[2]
        return jax.vmap(lambda channel: map_coordinates(channel, places, order=1), in_axes=-1, out_axes=-1)(image)

    return jax.vmap(one)(images, transforms.astype(jnp.float32))
