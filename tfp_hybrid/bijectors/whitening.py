"""`Whitening`: a rotation to the principal components of the data, scaled to unit variance."""

import numpy as np
import sklearn.covariance
import tensorflow as tf

from tfp_hybrid.bijectors.base import FusedBijector

_ROWS_PER_CHANNEL = 32  # with fewer, the smallest variances come out too small


class Whitening(FusedBijector):
    """Decorrelates the channels (the last axis) and gives them unit variance, by the mean and covariance of data.

        z = (x - mean) V diag(1 / s)         log|det dz/dx| = -S sum_c log s_c

    V holds the principal directions of the data, the largest variance first, and s the standard deviations along them;
    S is the number of positions (H * W for images, 1 for vectors). V is a rotation or reflection, whose log-det is 0.

    `adapt` sets mean, V and s, which are not trained. Before it, the bijector is the identity. With a standard normal
    latent, an adapted `Whitening` alone is the Gaussian with the mean and covariance of the data.

    Args:
      event_shape: `(C,)` or `(H, W, C)`.
      min_scale: The smallest s, as a fraction of the largest: directions in which the data hardly vary are not blown
        up beyond it.
      shrinkage: Whether the covariance is shrunk towards a multiple of the identity, by as much as Ledoit and Wolf
        estimate to be best. For few rows; there may be fewer rows than channels.
      dtype: The dtype of the weights.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If `min_scale` is not between 0 and 1, or `shrinkage` is not a bool.

    References:
      Ledoit and Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices" (`shrinkage`).
    """

    def __init__(
        self,
        event_shape,
        min_scale: float = 1e-3,
        dtype: str = "float32",
        name: str = "whitening",
        shrinkage: bool = False,
    ):
        parameters = dict(locals())
        if not isinstance(shrinkage, bool):
            raise ValueError(f"Whitening: `shrinkage` is {shrinkage!r}; wanted True or False.")
        if not 0 < min_scale <= 1:
            raise ValueError(f"Whitening: `min_scale` is {min_scale!r}; wanted a number in (0, 1].")
        super().__init__(event_shape, parameters=parameters, name=name)
        self.channels = self.event_shape[-1]
        self.positions = self.event_shape.num_elements() // self.channels
        self.min_scale, self.shrinkage = min_scale, shrinkage
        self.mean = self.add_weight(tf.zeros(self.channels, dtype), "mean", trainable=False)
        self.rotation = self.add_weight(tf.eye(self.channels, dtype=dtype), "rotation", trainable=False)
        self.log_scale = self.add_weight(tf.zeros(self.channels, dtype), "log_scale", trainable=False)

    @property
    def rows_to_adapt(self) -> int:
        """How many rows `adapt` needs for good estimates of all variances."""
        return max(super().rows_to_adapt, _ROWS_PER_CHANNEL * self.channels // self.positions)

    def _forward_and_log_det(self, z, training=False):
        x = self._on_channels(z * tf.exp(self.log_scale), tf.transpose(self.rotation)) + self.mean
        return x, self.same_log_det(-self._log_det(), z)

    def _inverse_and_log_det(self, x, training=False):
        # The mean goes first: it may be large compared with the smallest s.
        z = self._on_channels(x - self.mean, self.rotation * tf.exp(-self.log_scale))
        return z, self.same_log_det(self._log_det(), x)

    def _log_det(self):
        return -self.positions * tf.reduce_sum(self.log_scale)

    def _on_channels(self, value, matrix):
        return tf.reshape(tf.reshape(value, [-1, self.channels]) @ matrix, tf.shape(value))

    def adapt(self, x) -> tf.Tensor:
        """Sets the weights so that the channels of z are uncorrelated, with mean 0 and variance 1, and returns z.

        Args:
          x: `(n, *event_shape)`, with more rows (times positions) than channels; with `shrinkage`, two are enough.

        Raises:
          ValueError: If x has too few rows to estimate a covariance.
        """
        x = tf.convert_to_tensor(x)
        rows = tf.reshape(x, [-1, self.channels]).numpy()
        if self.shrinkage and len(rows) < 2:
            raise ValueError(f"{self.name}: x has {len(rows)} row; wanted at least two for a covariance.")
        if not self.shrinkage and len(rows) <= self.channels:
            raise ValueError(
                f"{self.name}: x has {len(rows)} rows for the covariance of {self.channels} channels; wanted more rows "
                f"than channels, best {self.rows_to_adapt} or more. Call `adapt` of the model with more rows before "
                "`fit`, or build the flow with shrinkage=True."
            )
        mean = rows.mean(0, dtype="float64")
        variances, rotation = np.linalg.eigh(self._covariance(rows.astype("float64") - mean))
        scale, rotation = np.sqrt(np.maximum(variances[::-1], 0)), rotation[:, ::-1]
        rotation = rotation * np.where(rotation[np.abs(rotation).argmax(0), np.arange(self.channels)] < 0, -1, 1)
        scale = np.maximum(scale, self.min_scale * scale[0]) if scale[0] > 0 else np.ones(self.channels)
        for weight, value in ((self.mean, mean), (self.rotation, rotation), (self.log_scale, np.log(scale))):
            weight.assign(value.astype(weight.dtype))
        return super().adapt(x)

    def _covariance(self, rows):
        if self.shrinkage:
            return sklearn.covariance.ledoit_wolf(rows, assume_centered=True)[0]
        return rows.T @ rows / len(rows)

    def is_adapted(self) -> bool:
        """Returns False while the weights still have their initial values."""
        return bool(tf.reduce_any(self.mean != 0.0) | tf.reduce_any(self.log_scale != 0.0))
