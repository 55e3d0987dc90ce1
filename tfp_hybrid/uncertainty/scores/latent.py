"""Scores by the latent z."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import Score, level_of

_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


@_register
class LatentNorm(Score):
    """||z||, the distance of the latent from the origin.

    If p_z is standard normal, it ranks inputs as -log p(x) without the log-determinant. A standard normal z of d
    entries lies near the sphere of radius sqrt(d), not near the origin, so a norm may also be too small:

        | ||z|| - r |,  r the mean of ||z|| over the held-out inputs passed to `fit`      (two-sided)

    Args:
      level: Only the entries that this level of a multi-scale flow ends in, counted from the data side, or from the
        end if negative. None takes all of z.
      two_sided: Whether a norm that is too small counts like one that is too large; it must be fitted.
      **kwargs: Passed to `Score`.

    Raises:
      ValueError: When the score is used, if the flow has no such level.
    """

    def __init__(self, level: int | None = None, two_sided: bool = False, **kwargs):
        self.needs_fit = two_sided
        super().__init__(**kwargs)
        self.level, self.two_sided = level, two_sided
        norm = "||z||" if level is None else f"||z|| of level {level}"
        self.title = f"| {norm} - mean |" if two_sided else norm
        if two_sided:
            self.radius = self.add_weight((), "zeros", trainable=False, autocast=False, name="radius")

    def learn(self, model: DensityModel, x, batch_size: int):
        if self.two_sided:
            norms = [self._norm(encoding) for encoding in encode_batches(model, x, batch_size)]
            self.radius.assign(np.concatenate(norms).mean(dtype="float64"))

    def of(self, encoding: Encoding) -> tf.Tensor:
        norm = self._norm(encoding)
        return tf.abs(norm - tf.cast(self.radius, norm.dtype)) if self.two_sided else norm

    def _norm(self, encoding):
        z = encoding.latents if self.level is None else level_of(encoding.level_features, self)
        return tf.norm(z, axis=-1)

    def get_config(self) -> dict:
        return super().get_config() | {"level": self.level, "two_sided": self.two_sided}
