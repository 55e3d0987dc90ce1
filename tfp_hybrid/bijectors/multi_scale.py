"""Functions that the builders share: checks of their arguments, and the end of a level."""

from collections.abc import Callable

import keras
import tensorflow_probability as tfp

from tfp_hybrid.arguments import check_count
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.factor_out import FactorOut

tfb = tfp.bijectors


def check_builder(builder: str, depth_name: str, depth: int, conditioner: Callable | None):
    """Raises ValueError if `depth` < 1, or if `conditioner` is a layer, which all couplings would share."""
    check_count(depth, f"{builder}: `{depth_name}`")
    if conditioner is not None and (isinstance(conditioner, keras.layers.Layer) or not callable(conditioner)):
        raise ValueError(
            f"{builder}: `conditioner` is {conditioner!r}; wanted a function (input_shape, units) -> keras layer, "
            "which is called for each coupling."
        )


def check_image(event_shape: tuple[int, ...], levels: int, builder: str):
    """Raises ValueError unless `event_shape` is that of an image whose sides are divisible by 2^levels."""
    if len(event_shape) != 3:
        raise ValueError(f"{builder}: `event_shape` is {tuple(event_shape)}; wanted (H, W, C), the shape of an image.")
    height, width, _ = event_shape
    check_count(levels, f"{builder}: `levels`")
    if height % 2**levels or width % 2**levels:
        raise ValueError(
            f"{builder}: `event_shape` is {tuple(event_shape)} and `levels` is {levels}; wanted sides "
            f"that are divisible by 2**levels = {2**levels}. Pad the images or use fewer levels."
        )


def factor_out_or_flatten(shape: tuple, remaining: int, level: Callable[[tuple, int], list]) -> tfb.Bijector:
    """Builds the end of a level: `FactorOut` around the next level, or a flat latent after the last.

    Args:
      shape: The shape `(H, W, C)` at the end of the level.
      remaining: The number of levels that follow.
      level: A function `(shape, remaining) -> bijectors` that builds the next level.

    Returns:
      A bijector from a flat latent to `shape`.
    """
    height, width, channels = shape
    if not remaining:
        return tfb.Reshape(event_shape_out=shape, event_shape_in=(height * width * channels,))
    kept = (height, width, channels // 2)
    return FactorOut(FusedChain(level(kept, remaining - 1), kept), shape)
