"""`FactorOut`, for flows of several levels: some channels go to the latent, the rest to the next level."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors import conditions, description, one_pass
from tfp_hybrid.bijectors.base import FusedBijector

tfb = tfp.bijectors


class FactorOut(FusedBijector):
    """Moves the last channels of x to the latent, and transforms the first k by `bijector`.

        z = [bijector.inverse(x[..., :k]), flatten(x[..., k:])]
        log|det dz/dx| = that of `bijector` at x[..., :k]

    Nested instances, one level inside the other, make the multi-scale architecture. The latent is a flat vector.

    Args:
      bijector: The levels below, a bijector from a flat latent to `(H, W, k)`, or `(k,)` for vectors.
      event_shape: The shape of x, `(H, W, C)` or `(C,)`, with C >= 2.
      kept: The number k of channels that are transformed, below C; `C // 2` if None.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If C < 2, or if k is not between 1 and C - 1.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 3.6 and eq. 14-16.
    """

    def __init__(
        self, bijector: tfb.Bijector, event_shape: tuple[int, ...], kept: int | None = None, name: str = "factor_out"
    ):
        parameters = dict(locals())
        *sides, channels = event_shape
        if channels < 2:
            raise ValueError(f"FactorOut: `event_shape` is {tuple(event_shape)}; wanted at least 2 channels.")
        if kept is not None and not 1 <= kept < channels:
            raise ValueError(f"FactorOut: `kept` is {kept!r}; wanted 1 .. {channels - 1}, fewer than the channels.")
        self.bijector = bijector
        self._kept = channels // 2 if kept is None else kept
        self._out_shape = (*sides, channels - self._kept)
        self._kept_size = bijector.inverse_event_shape((*sides, self._kept)).num_elements()
        self._rank = len(event_shape)
        size = tf.TensorShape(event_shape).num_elements()
        condition_shape = conditions.shape_of_all([bijector], "FactorOut")
        super().__init__(event_shape, (size,), condition_shape, parameters=parameters, name=name)

    def _forward_and_log_det(self, z, training=False, condition=None):
        kept, log_det = one_pass.forward_and_log_det(self.bijector, z[..., : self._kept_size], 1, training, condition)
        out = z[..., self._kept_size :]
        out = tf.reshape(out, tf.concat([tf.shape(out)[:-1], self._out_shape], 0))
        return tf.concat([kept, out], -1), log_det

    def _inverse_and_log_det(self, x, training=False, condition=None):
        kept = x[..., : self._kept]
        kept, log_det = one_pass.inverse_and_log_det(self.bijector, kept, self._rank, training, condition)
        return self._join(kept, x), log_det

    def _inverse_and_log_dets(self, x, training=False, condition=None):
        kept = x[..., : self._kept]
        kept, log_dets = one_pass.inverse_and_log_dets(self.bijector, kept, self._rank, training, condition)
        return self._join(kept, x), [tf.zeros_like(log_dets[0]), *log_dets]

    def level_sizes(self) -> list[int]:
        """Returns the number of entries that are factored out, and those of the levels below."""
        out = self._latent_shape.num_elements() - self._kept_size
        return [out, *one_pass.level_sizes(self.bijector, self._kept_shape())]

    def _kept_shape(self):
        return tf.TensorShape((*self._out_shape[:-1], self._kept))

    def _join(self, kept, x):
        out = x[..., self._kept :]
        flat_shape = tf.concat([self.batch_shape_of(out), [tf.reduce_prod(self._out_shape)]], 0)
        return tf.concat([kept, tf.reshape(out, flat_shape)], -1)

    @property
    def rows_to_adapt(self) -> int:
        """As many as the levels below need."""
        return one_pass.rows_to_adapt(self.bijector)

    def adapt(self, x, condition=None) -> tf.Tensor:
        """Sets the data-dependent weights of the levels below, and returns `inverse(x)`."""
        x = tf.convert_to_tensor(x)
        return self._join(one_pass.adapt(self.bijector, x[..., : self._kept], condition), x)

    def is_adapted(self) -> bool:
        """Returns False if the levels below have not been adapted yet."""
        return one_pass.is_adapted(self.bijector)

    def describe(self) -> list[description.FlowStep]:
        """Lists this step, without weights, and the steps of the levels below; see the base class."""
        row = description.flow_step(self.name, self.event_shape, self.latent_shape, [])
        return [row, *description.steps_of(self.bijector, self._kept_shape())]
