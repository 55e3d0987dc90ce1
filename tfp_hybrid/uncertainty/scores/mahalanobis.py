"""`RelativeMahalanobis`: the distance from the nearest class, against the distance from all classes together."""

import keras
import numpy as np
import sklearn.covariance
import tensorflow as tf

from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches, flattened
from tfp_hybrid.uncertainty.scores.base import Score, check_classifier, classes_of


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class RelativeMahalanobis(Score):
    """min_k M_k(z) - M_0(z), with M the squared Mahalanobis distances of a classifier's latent z.

        M_k(z) = (z - mu_k)^T S^-1 (z - mu_k),    S the covariance within the classes k
        M_0(z) = (z - mu_0)^T S_0^-1 (z - mu_0),  mu_0 and S_0 those of all inputs

    M_0 takes away what has nothing to do with the classes. The classes of the held-out inputs are those that the model
    predicts, and the covariances are shrunk (Ledoit and Wolf 2004).

    Args:
      of: "z", or "x" for distances of what the flow takes, which suits features of an encoder.
      relative: Whether to subtract M_0.
      **kwargs: Passed to `Score`.

    Raises:
      ValueError: If `of` is neither, or, when the score is used, if the head is no classifier of one label.

    References:
      Lee, Lee, Lee and Shin 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
      Attacks", section 2.1.
      Ren, Fort, Liu, Roy, Padhy and Lakshminarayanan 2021, "A Simple Fix to Mahalanobis Distance for Improving Near-OOD
      Detection", eq. 3.
    """

    needs_fit = True

    def __init__(self, of: str = "z", relative: bool = True, **kwargs):
        super().__init__(**kwargs)
        if of not in ("z", "x"):
            raise ValueError(f"RelativeMahalanobis: `of` is {of!r}; wanted 'z' or 'x'.")
        self.of_what, self.relative = of, relative
        self.title = f"{'relative ' if relative else ''}Mahalanobis of {of}"
        self.means, self.whitening = self.add_array("means"), self.add_array("whitening")
        self.mean, self.whitening_of_all = self.add_array("mean"), self.add_array("whitening_of_all")

    def check_applies(self, model: DensityModel):
        check_classifier(model, "RelativeMahalanobis")

    def learn(self, model: DensityModel, x, batch_size: int):
        self.check_applies(model)
        passes = [
            (vectors(encoding, self.of_what), classes_of(encoding)) for encoding in encode_batches(model, x, batch_size)
        ]
        rows, classes = (np.concatenate(parts) for parts in zip(*passes, strict=True))
        rows = rows.astype("float64")
        means = np.stack([rows[classes == k].mean(0) for k in np.unique(classes)])
        within = rows - means[np.unique(classes, return_inverse=True)[1]]
        self.means.assign(means)
        self.whitening.assign(_whitening(within))
        self.mean.assign(rows.mean(0))
        self.whitening_of_all.assign(_whitening(rows - rows.mean(0)))

    def of(self, encoding: Encoding) -> tf.Tensor:
        rows = tf.cast(vectors(encoding, self.of_what), tf.float32)
        whitening = tf.ensure_shape(self.whitening, (None, None))
        centers = tf.ensure_shape(self.means, (None, None)) @ whitening
        nearest = tf.reduce_min(squared_distances(rows @ whitening, centers), -1)
        if not self.relative:
            return nearest
        return nearest - tf.reduce_sum(tf.square((rows - self.mean) @ self.whitening_of_all), -1)

    def get_config(self) -> dict:
        return super().get_config() | {"of": self.of_what, "relative": self.relative}


def vectors(encoding: Encoding, of: str) -> tf.Tensor:
    """Returns the latents ("z") or what the flow takes ("x") as vectors, `(n, d)`."""
    return encoding.latents if of == "z" else flattened(encoding.flow_input, encoding.model.distribution.event_shape)


def squared_distances(a, b) -> tf.Tensor:
    """Returns the squared distances of the rows of a from those of b, `(n, m)`."""
    squares = tf.reduce_sum(tf.square(a), -1)[:, tf.newaxis] + tf.reduce_sum(tf.square(b), -1)
    return tf.maximum(squares - 2 * tf.matmul(a, b, transpose_b=True), 0.0)


def _whitening(centered):
    """Returns a matrix W with W W^T = S^-1, of the shrunk covariance S of rows that are centred."""
    covariance, _ = sklearn.covariance.ledoit_wolf(centered, assume_centered=True)
    values, axes = np.linalg.eigh(covariance)
    if values[-1] <= 0:
        raise ValueError("x has inputs that are all alike; wanted inputs that vary, for their covariance.")
    return axes / np.sqrt(np.maximum(values, 1e-12 * values[-1]))
