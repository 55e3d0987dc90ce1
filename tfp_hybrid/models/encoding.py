"""The pass from x to z: what it gives, and many inputs in batches."""

import dataclasses
import functools
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import arguments
from tfp_hybrid.models import checks, feeding

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What one pass through the flow gives for n inputs: `model.encode(x)`.

    Attributes:
      model: The `DensityModel`.
      x: The inputs, `(n, *event_shape)`.
      z: Their latents f(x), `(n, *latent_shape)`.
      log_p_z: log p_z(z) in nats, `(n,)`.
      log_det: log|det df/dx| in nats, `(n,)`.
    """

    model: keras.Model
    x: tf.Tensor
    z: tf.Tensor
    log_p_z: tf.Tensor
    log_det: tf.Tensor

    @functools.cached_property
    def log_prob(self) -> tf.Tensor:
        """log p(x) = log p_z(z) + log|det df/dx| in nats, `(n,)`; -inf where it overflows to NaN."""
        log_prob = self.log_p_z + self.log_det
        return tf.where(tf.math.is_nan(log_prob), tf.constant(-np.inf, log_prob.dtype), log_prob)

    @functools.cached_property
    def features(self) -> tf.Tensor:
        """z with its event flattened, `(n, d)`: what the head sees."""
        return flattened(self.z, self.model.distribution.distribution.event_shape)

    @functools.cached_property
    def p_y(self) -> tfd.Distribution:
        """p(y|x) with batch shape `(n,)`, by the head of a `HybridModel`."""
        return self.model.head(self.features)


def flattened(z, event_shape: tf.TensorShape) -> tf.Tensor:
    """z with the axes of its event as one."""
    rank = event_shape.rank
    if rank == 1:
        return z
    return tf.reshape(z, tf.concat([tf.shape(z)[: tf.rank(z) - rank], [event_shape.num_elements()]], 0))


def encode_batches(model, x, batch_size: int | None = None) -> Iterator[Encoding]:
    """Encodes many inputs, one batch in memory at a time.

    Args:
      model: A `DensityModel`.
      x: An array `(n, *event_shape)`, or a `tf.data.Dataset` of batches of inputs or (inputs, ...).
      batch_size: Rows of a batch of an array; 256 if None.

    Raises:
      ValueError: If x is empty, or holds inputs that the model cannot take.
    """
    arguments.check_batch_size(batch_size)
    batch_size = batch_size or 256
    if isinstance(x, tf.data.Dataset):
        feed = feeding.Feed(model, inputs_only=True)
        for (batch,) in feed.iterate(x):
            yield model.encode_checked(tf.convert_to_tensor(batch))
    else:
        rows = checks.inputs(x, model)
        for start in range(0, len(rows), batch_size):
            yield model.encode_checked(tf.convert_to_tensor(rows[start : start + batch_size]))
