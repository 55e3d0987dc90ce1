"""`TrainedLatent`, the base class of latent distributions with weights."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import registry
from tfp_hybrid.bijectors.weights import WeightHolder

tfd = tfp.distributions


class TrainedLatent(WeightHolder, tfd.Distribution):
    """A distribution of z whose parameters are weights of Keras, which TFP sees as variables.

    A subclass writes `_log_prob` and `_sample_n`.

    Args:
      shape: The shape of z.
      dtype: The dtype of z.
      parameters: The constructor's `locals()`.
      name: The name of the distribution.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.register(cls)

    def __init__(self, shape: tf.TensorShape, dtype: tf.DType, *, parameters: dict, name: str):
        self._shape = shape
        super().__init__(
            dtype=dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    def _batch_shape(self):
        return tf.TensorShape([])

    def _batch_shape_tensor(self):
        return tf.constant([], tf.int32)

    def _event_shape(self):
        return self._shape

    def _event_shape_tensor(self):
        return tf.constant(self._shape.as_list(), tf.int32)

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}
