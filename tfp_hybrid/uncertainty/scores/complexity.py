"""Scores that compare the density of an image with its complexity, the length of its PNG."""

import math

import keras
import tensorflow as tf

from tfp_hybrid.models import Encoding
from tfp_hybrid.models.checks import quantization_levels
from tfp_hybrid.uncertainty.scores.base import Score

_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


@_register
class CodeLength(Score):
    """L(x) in nats, the length of the losslessly compressed image (PNG at the highest compression level).

    It measures the complexity of an image without a model, and applies to integer images of 1 to 4 channels. By itself
    it is no measure of being out-of-distribution, but together with others it is; see `DensityOfStates`.

    Args:
      **kwargs: Passed to `Score`.
    """

    title = "code length"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False  # XLA cannot encode PNG

    def of(self, encoding: Encoding) -> tf.Tensor:
        levels, shape = quantization_levels(encoding.model.distribution), encoding.model.distribution.event_shape
        if levels is None or levels > 65536 or shape.rank != 3 or shape[-1] not in (1, 2, 3, 4):
            raise ValueError(
                f"{type(self).__name__}: the model's inputs have shape {tuple(shape)} and {levels} levels; wanted "
                "integer images of 1 to 4 channels with at most 65536 levels."
            )
        if "code length" not in encoding.kept:
            image = tf.cast(encoding.x, tf.uint8 if levels <= 256 else tf.uint16)
            encoding.kept["code length"] = tf.strings.length(tf.io.encode_png(image, compression=9))
        return 8 * math.log(2) * tf.cast(encoding.kept["code length"], encoding.log_prob.dtype)


@_register
class InputComplexity(CodeLength):
    """-log p(x) - L(x) in nats: how much longer the model's code of the image is than its PNG.

    A flow gives simple images high densities, whatever they show. L(x), the length of the losslessly compressed image,
    measures the complexity of an image without a model; see `CodeLength`.

    Args:
      **kwargs: Passed to `Score`.

    References:
      Serra, Alvarez, Gomez, Slizovskaia, Nunez and Luque 2020, "Input Complexity and Out-of-distribution Detection
      with Likelihood-based Generative Models", eq. 2.
    """

    title = "complexity"

    def of(self, encoding: Encoding) -> tf.Tensor:
        return -encoding.log_prob - super().of(encoding)
