"""`GradientNorm`: how steep log p(x) is."""

import keras
import tensorflow as tf

from tfp_hybrid.models import Encoding
from tfp_hybrid.models.side_inputs import as_cached
from tfp_hybrid.uncertainty.scores.base import Score


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class GradientNorm(Score):
    """||d log p(x) / dx||, in nats per unit of x.

    An input may have a high density in a region that holds no mass because it is tiny; there, log p(x) is steep. It
    takes another pass through the flow, and its gradient. With an encoder, x is what the encoder gives.

    References:
      Grathwohl, Wang, Jacobsen, Duvenaud, Norouzi and Swersky 2020, "Your Classifier is Secretly an Energy Based Model
      and You Should Treat it Like One", section 5.3.
    """

    title = "||d log p(x) / dx||"

    def of(self, encoding: Encoding) -> tf.Tensor:
        model, x = encoding.model, tf.cast(encoding.flow_input, encoding.log_p_z.dtype)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            given = encoding.with_condition(x if model.encoder is None else as_cached(x))
            log_prob = model.encode_checked(given).log_prob
        gradient = tape.gradient(log_prob, x)
        return tf.norm(tf.reshape(gradient, [tf.shape(x)[0], -1]), axis=-1)
