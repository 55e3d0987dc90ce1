"""Shared by the builders: checks of their arguments, and the end of a level."""

from collections.abc import Callable

import keras
import tensorflow_probability as tfp

from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.factor_out import FactorOut

tfb = tfp.bijectors


def check_builder(builder: str, depth_name: str, depth: int, conditioner):
    """Raises ValueError for fewer than one step, or for a layer as `conditioner`, which all couplings would share."""
    if depth < 1:
        raise ValueError(f"{builder}: `{depth_name}` is {depth}; wanted at least 1.")
    if conditioner is not None and (isinstance(conditioner, keras.layers.Layer) or not callable(conditioner)):
        raise ValueError(
            f"{builder}: `conditioner` is {conditioner!r}; wanted a function (input_shape, units) -> keras layer, "
            "which is called for each coupling."
        )


def check_image(event_shape, levels: int, builder: str):
    """Raises ValueError unless `event_shape` is that of an image whose sides divide by 2^levels."""
    if len(event_shape) != 3:
        raise ValueError(f"{builder}: `event_shape` is {tuple(event_shape)}; wanted an image's (H, W, C).")
    height, width, _ = event_shape
    if levels < 1 or height % 2**levels or width % 2**levels:
        raise ValueError(
            f"{builder}: `event_shape` is {tuple(event_shape)} and `levels` is {levels}; wanted at least one "
            f"level, and sides that divide by 2**levels = {2**levels}. Pad the images or take fewer levels."
        )


def factor_out_or_flatten(shape: tuple, remaining: int, level: Callable[[tuple, int], list]) -> tfb.Bijector:
    """Builds the end of a level: `FactorOut` around the next level, or a flat latent after the last.

    Args:
      shape: `(H, W, C)` at the end of the level.
      remaining: number of levels still to come.
      level: a function `(shape, remaining) -> bijectors` that builds the next level.
    """
    height, width, channels = shape
    if not remaining:
        return tfb.Reshape(event_shape_out=shape, event_shape_in=(height * width * channels,))
    kept = (height, width, channels // 2)
    return FactorOut(FusedChain(level(kept, remaining - 1), kept), shape)
