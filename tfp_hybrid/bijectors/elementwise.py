"""`Elementwise`: a transformer with trained parameters for each entry."""

import tensorflow as tf

from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.transformers import Transformer


class Elementwise(FusedBijector):
    """A scalar bijector of each entry, whose parameters are trained and the same for all rows.

        z_i = transformer.inverse(x_i; raw_i)       log|det dz/dx| = sum_i log|dz_i/dx_i|

    It starts as the identity. In a `Coupling`, the parameters are a function of other entries instead.

    Args:
      event_shape: The shape of one data point, such as `(d,)`.
      transformer: A `transformers.Transformer`.
      dtype: The dtype of the weights.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If the event is a scalar, or if `transformer` is not a `Transformer`.

    Example:

    >>> flow = bijectors.Elementwise((2,), bijectors.transformers.CircularSpline(bins=16))
    >>> z, log_det = flow.inverse_and_log_det(tf.ones((3, 2)))
    """

    def __init__(
        self, event_shape: tuple[int, ...], transformer: Transformer, dtype: str = "float32", name: str = "elementwise"
    ):
        parameters = dict(locals())
        if not isinstance(transformer, Transformer):
            raise ValueError(
                f"Elementwise: `transformer` is {transformer!r}; wanted a `bijectors.transformers.Transformer`."
            )
        super().__init__(event_shape, parameters=parameters, name=name)
        if not self.event_shape.rank:
            raise ValueError(f"Elementwise: `event_shape` is {event_shape}; wanted at least one axis, such as (d,).")
        self.transformer, (*outer, size) = transformer, tuple(self.event_shape)
        self.raw = self.add_weight(tf.zeros((*outer, transformer.num_parameters * size), dtype), "raw")

    def _forward_and_log_det(self, z, training=False):
        return self.transformer.forward(z, self._raw_of_rows(z), self.event_shape.rank)

    def _inverse_and_log_det(self, x, training=False):
        return self.transformer.inverse(x, self._raw_of_rows(x), self.event_shape.rank)

    def _raw_of_rows(self, value):
        return tf.broadcast_to(self.raw, tf.concat([self.batch_shape_of(value), self.raw.shape], 0))
