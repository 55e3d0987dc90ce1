"""`InputComplexity`: a density score that is corrected for the complexity of the image."""

import math

import keras
import tensorflow as tf

from tfp_hybrid.models import Encoding
from tfp_hybrid.models.checks import quantization_levels
from tfp_hybrid.uncertainty.scores import Score


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class InputComplexity(Score):
    """-log p(x) - L(x) in nats: how much longer the model's code of the image is than its PNG.

    A flow gives simple images high densities, whatever they show. L(x), the length of the losslessly compressed image
    (PNG at the highest compression level), measures the complexity of an image without a model. This score applies to
    integer images of 1 to 4 channels.

    Args:
      **kwargs: Passed to `Score`.

    References:
      Serra, Alvarez, Gomez, Slizovskaia, Nunez and Luque 2020, "Input Complexity and Out-of-distribution Detection
      with Likelihood-based Generative Models", eq. 2.
    """

    title = "complexity"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False  # XLA cannot encode PNG

    def of(self, encoding: Encoding) -> tf.Tensor:
        levels, shape = quantization_levels(encoding.model.distribution), encoding.model.distribution.event_shape
        if levels is None or levels > 65536 or shape.rank != 3 or shape[-1] not in (1, 2, 3, 4):
            raise ValueError(
                f"InputComplexity: the model's inputs have shape {tuple(shape)} and {levels} levels; wanted integer "
                "images of 1 to 4 channels with at most 65536 levels."
            )
        image = tf.cast(encoding.x, tf.uint8 if levels <= 256 else tf.uint16)
        length = 8 * tf.strings.length(tf.io.encode_png(image, compression=9))
        return -encoding.log_prob - math.log(2) * tf.cast(length, encoding.log_prob.dtype)
