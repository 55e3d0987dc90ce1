"""A trained model's latent and density, batch by batch: what every answer about new inputs is made from."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfp_hybrid import checks


@dataclasses.dataclass(frozen=True)
class Forward:
    """What one pass through a `HybridModel` gives for n inputs.

    Attributes:
      model: the model.
      x: the inputs, `(n, *event_shape)`.
      z: their latents, flattened: what the head sees, `(n, d)`.
      log_prob: log p(x) in nats, `(n,)`; -inf where the density overflows to NaN.
    """

    model: object
    x: tf.Tensor
    z: tf.Tensor
    log_prob: tf.Tensor

    @functools.cached_property
    def p_y(self):
        """p(y|x), a `tfd.Distribution` with batch shape `(n,)`."""
        return self.model.head(self.z)


def forward(model, x: tf.Tensor) -> Forward:
    """One pass over one batch; works in a `tf.function`, too."""
    z, log_prob = model.features_and_log_prob(x)
    log_prob = tf.where(tf.math.is_nan(log_prob), tf.constant(-np.inf, log_prob.dtype), log_prob)
    return Forward(model, x, z, log_prob)


def forward_batches(model, x, batch_size: int = 256) -> Iterator[Forward]:
    """Passes over many inputs, one batch in memory at a time.

    Args:
      model: a `HybridModel`.
      x: `(n, *event_shape)`, an array; or a `tf.data.Dataset` of batches of inputs or (inputs, ...).
      batch_size: rows at a time of an array.

    Raises:
      ValueError: if x is empty or holds inputs that the model cannot take.
    """
    if isinstance(x, tf.data.Dataset):
        batches = (batch[0] if isinstance(batch, tuple) else batch for batch in x)
    else:
        checks.check_inputs(x, model.distribution)
        rows = np.asarray(x)
        batches = (rows[start : start + batch_size] for start in range(0, len(rows), batch_size))
    empty = True
    for batch in batches:
        if isinstance(x, tf.data.Dataset):
            checks.check_inputs(batch, model.distribution)
        empty = False
        yield forward(model, tf.convert_to_tensor(batch))
    if empty:
        raise ValueError("x is an empty data set; wanted at least one batch.")
