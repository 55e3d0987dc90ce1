"""`KNearest`: the distance from the nearest held-out inputs."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import Score
from tfp_hybrid.uncertainty.scores.mahalanobis import squared_distances, vectors


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class KNearest(Score):
    """The distance of the latent z from the k-th nearest of the latents of held-out inputs.

    Args:
      k: Which neighbour.
      rows: How many held-out inputs are kept at most, spread evenly over those passed to `fit`.
      of: "z", or "x" for distances of what the flow takes, which suits features of an encoder.
      normalize: Whether vectors are first divided by their lengths, as the paper does for features.
      **kwargs: Passed to `Score`.

    Raises:
      ValueError: If `k` or `rows` is not a whole number >= 1, or `of` is neither; when fitted, if there are fewer than
        k inputs.

    References:
      Sun, Ming, Zhu and Li 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors", section 3.
    """

    needs_fit = True

    def __init__(self, k: int = 5, rows: int = 5000, of: str = "z", normalize: bool = False, **kwargs):
        super().__init__(**kwargs)
        arguments.check_count(k, "KNearest: `k`")
        arguments.check_count(rows, "KNearest: `rows`", least=k)
        if of not in ("z", "x"):
            raise ValueError(f"KNearest: `of` is {of!r}; wanted 'z' or 'x'.")
        if not isinstance(normalize, bool):
            raise ValueError(f"KNearest: `normalize` is {normalize!r}; wanted True or False.")
        self.k, self.rows, self.of_what, self.normalize = k, rows, of, normalize
        self.title = f"neighbour {k} of {of}" + (" / ||" + of + "||" if normalize else "")
        self.neighbours = self.add_array("neighbours")

    def learn(self, model: DensityModel, x, batch_size: int):
        found = np.concatenate([self._vectors(encoding) for encoding in encode_batches(model, x, batch_size)])
        if len(found) < self.k:
            raise ValueError(f"KNearest: x has {len(found)} inputs; wanted at least k = {self.k}.")
        self.neighbours.assign(found[:: -(-len(found) // self.rows)])

    def of(self, encoding: Encoding) -> tf.Tensor:
        neighbours = tf.ensure_shape(self.neighbours, (None, None))
        nearest = tf.math.top_k(-squared_distances(self._vectors(encoding), neighbours), self.k).values
        return tf.sqrt(-nearest[:, -1])

    def _vectors(self, encoding):
        found = tf.cast(vectors(encoding, self.of_what), tf.float32)
        return tf.math.l2_normalize(found, -1) if self.normalize else found

    def get_config(self) -> dict:
        own = {"k": self.k, "rows": self.rows, "of": self.of_what, "normalize": self.normalize}
        return super().get_config() | own
