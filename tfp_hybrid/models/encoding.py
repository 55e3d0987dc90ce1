"""The pass from x to z: what it gives, and many inputs in batches."""

import dataclasses
import functools
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import arguments
from tfp_hybrid.bijectors import one_pass
from tfp_hybrid.models import checks, data_sets, feeding, side_inputs

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class Encoding:
    """What one pass through the flow gives for n inputs: `model.encode(x)`.

    Attributes:
      model: The `DensityModel`.
      x: The inputs as given, `(n, *input_shape)`.
      z: The latents f(x), `(n, *latent_shape)`; of a model with an encoder f(h), with h its features of x.
      log_p_z: log p_z(z) in nats, `(n,)`.
      log_dets: What each level of the flow adds to log|det df/dx|, in nats, `(n, levels)`, the data side first. A flow
        without `FactorOut` has one level.
      encoded: What an encoder made of x, `(n, *event_shape)`; None without an encoder.
      side: What the head sees beside z, columns `(n,)`; empty for heads without side inputs.
      condition: The c of p(x | c), `(n, *condition_shape)`; None for flows without one.
      kept: What scores of this pass keep for one another.
    """

    model: keras.Model
    x: tf.Tensor
    z: tf.Tensor
    log_p_z: tf.Tensor
    log_dets: tf.Tensor
    encoded: tf.Tensor | None = None
    side: list[tf.Tensor] = dataclasses.field(default_factory=list)
    condition: tf.Tensor | None = None
    kept: dict = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def flow_input(self) -> tf.Tensor:
        """What the flow saw, `(n, *event_shape)`: the encoder's features of x, or x itself."""
        return self.x if self.encoded is None else self.encoded

    def with_condition(self, x):
        """Inputs of a model of p(x | c) with another x and the conditions of this pass; x alone if there are none."""
        return x if self.condition is None else side_inputs.as_inputs(x, self.condition)

    def rows(self, chosen: np.ndarray) -> "Encoding":
        """The pass of some of the inputs, by a mask or by indices."""
        names = [field.name for field in dataclasses.fields(self) if field.name not in ("model", "kept")]
        index = np.arange(self.log_p_z.shape[0])[chosen]
        values = {name: getattr(self, name) for name in names}
        return Encoding(
            self.model, **tf.nest.map_structure(lambda one: None if one is None else tf.gather(one, index), values)
        )

    @functools.cached_property
    def log_det(self) -> tf.Tensor:
        """log|det df/dx| in nats, `(n,)`."""
        return tf.reduce_sum(self.log_dets, -1)

    @functools.cached_property
    def log_prob(self) -> tf.Tensor:
        """log p(x) = log p_z(z) + log|det df/dx| in nats, `(n,)`; -inf where it overflows to NaN.

        Of a model with an encoder, it is log p(features).
        """
        log_prob = self.log_p_z + self.log_det
        return tf.where(tf.math.is_nan(log_prob), tf.constant(-np.inf, log_prob.dtype), log_prob)

    @functools.cached_property
    def latents(self) -> tf.Tensor:
        """z with its event flattened, `(n, d)`."""
        return flattened(self.z, self.model.distribution.distribution.event_shape)

    @functools.cached_property
    def features(self) -> tf.Tensor:
        """What the head sees, `(n, d)`: the latents; or `(n, d + c)` with c columns of side inputs."""
        if not self.side:
            return self.latents
        return tf.concat([tf.cast(self.latents, self.side[0].dtype), tf.stack(self.side, -1)], -1)

    @functools.cached_property
    def level_features(self) -> list[tf.Tensor]:
        """The entries of z that each level ends in, `(n, d_l)`, the data side first."""
        p_x = self.model.distribution
        sizes = one_pass.level_sizes(p_x.bijector, p_x.event_shape)
        return tf.split(self.latents, sizes[::-1], -1)[::-1]

    @functools.cached_property
    def entry_log_probs(self) -> tf.Tensor:
        """log p_z of each entry of z, of the shape of z; they sum to `log_p_z`.

        Raises:
          ValueError: If p_z is not factorized, as the default is.
        """
        p_z = self.model.distribution.distribution
        each = p_z.distribution.log_prob(self.z) if isinstance(p_z, tfd.Independent) else self.log_p_z
        if each.shape.rank != self.z.shape.rank:
            raise ValueError(
                f"p_z is {p_z}; wanted `tfd.Independent` of a scalar distribution, as is the default, for the log p of "
                "each level or position."
            )
        return each

    @functools.cached_property
    def level_log_probs(self) -> tf.Tensor:
        """log p_z(z_l) + the log-det of each level l, `(n, levels)`; their sum is log p(x).

        Raises:
          ValueError: If the flow has several levels and p_z is not factorized, as the default is.
        """
        if self.log_dets.shape[-1] == 1:
            return self.log_p_z[:, tf.newaxis] + self.log_dets
        each = flattened(self.entry_log_probs, self.model.distribution.distribution.event_shape)
        sizes = [part.shape[-1] for part in self.level_features]
        parts = tf.split(each, sizes[::-1], -1)[::-1]
        return tf.stack([tf.reduce_sum(part, -1) for part in parts], -1) + self.log_dets

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
      x: An array `(n, *event_shape)`, or a dict of arrays for a model with side inputs; or a `tf.data.Dataset` of
        batches of inputs or (inputs, ...); or a list of `Encoding` objects, which are yielded as they are.
      batch_size: Rows of a batch of an array; 256 if None.

    Raises:
      ValueError: If x is empty, or a generator or `PyDataset`, or holds inputs that the model cannot take.
    """
    arguments.check_batch_size(batch_size)
    model.check_encoder()
    if isinstance(x, list) and x and isinstance(x[0], Encoding):
        yield from x
        return
    batch_size = batch_size or 256
    if isinstance(x, tf.data.Dataset):
        feed = feeding.Feed(model, inputs_only=True)
        for (batch,) in feed.iterate(x):
            yield model.encode_checked(side_inputs.tensors(batch))
    elif not data_sets.is_array(x):
        raise ValueError(f"x is a {type(x).__name__}; wanted an array, or a `tf.data.Dataset` of batches.")
    else:
        rows = checks.inputs(x, model)
        for start in range(0, side_inputs.count(rows), batch_size):
            yield model.encode_checked(side_inputs.tensors(side_inputs.take(rows, slice(start, start + batch_size))))
