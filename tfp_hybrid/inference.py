"""A trained model's latent and density, batch by batch: what every answer about new inputs is made from."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments, checks, feeding


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


def forward(model, x) -> Forward:
    """One pass over one batch; works in a `tf.function`, too. Outside of one, inputs are checked first."""
    return _forward(model, checks.tensor(x, model))


def _forward(model, x):
    z, log_prob = model.one_pass(x)
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
    arguments.check_batch_size(batch_size)
    batch_size = batch_size or 256
    if isinstance(x, tf.data.Dataset):
        feed = feeding.Feed(model, labelled=False)
        for (batch,) in feed.iterate(x):
            yield _forward(model, tf.convert_to_tensor(batch))
    else:
        rows = checks.inputs(x, model)
        for start in range(0, len(rows), batch_size):
            yield _forward(model, tf.convert_to_tensor(rows[start : start + batch_size]))
