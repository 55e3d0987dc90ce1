"""Density corrected for how complex the image is."""

import math

import keras
import tensorflow as tf

from tfp_hybrid.models.checks import quantization_levels
from tfp_hybrid.uncertainty.scores import Score


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class InputComplexity(Score):
    """-log p(x) - L(x) in nats: how much worse the model codes the image than PNG does.

    A flow gives simple images high densities, whatever they show; L(x), the length of the losslessly compressed image
    (PNG at its highest effort), is a model-free measure of how simple they are. For integer images of 1 to 4 channels.

    References:
      Serra, Alvarez, Gomez, Slizovskaia, Nunez and Luque 2020, "Input Complexity and Out-of-distribution Detection
      with Likelihood-based Generative Models", eq. 2.
    """

    title = "complexity"

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False  # XLA has no PNG

    def of(self, forward):
        levels, shape = quantization_levels(forward.model.distribution), forward.model.distribution.event_shape
        if levels is None or levels > 65536 or shape.rank != 3 or shape[-1] not in (1, 2, 3, 4):
            raise ValueError(
                f"InputComplexity wants integer images of 1 to 4 channels, at most 65536 levels; the model's inputs "
                f"have shape {tuple(shape)} and {levels} levels."
            )
        image = tf.cast(forward.x, tf.uint8 if levels <= 256 else tf.uint16)
        length = 8 * tf.strings.length(tf.io.encode_png(image, compression=9))
        return -forward.log_prob - math.log(2) * tf.cast(length, forward.log_prob.dtype)
