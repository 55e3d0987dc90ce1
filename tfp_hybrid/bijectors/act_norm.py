"""ActNorm: an affine map for each channel, initialized from data."""

import tensorflow as tf

from tfp_hybrid.bijectors.channel_affine import ChannelAffine


class ActNorm(ChannelAffine):
    """Shift and scale of each channel (the last axis), set by `adapt` so that its output is standardized.

        z = (x - loc) * exp(-log_scale)         log|det dz/dx| = -S sum_c log_scale_c

    with S the number of positions (H * W for images, 1 for vectors).

    Args:
      event_shape: `(C,)` or `(H, W, C)`.
      dtype: of the weights.
      name: prefix of the names of the ops.

    References:
      Kingma and Dhariwal 2018, "Glow", section 3.1.
    """

    def __init__(self, event_shape, dtype="float32", name="act_norm"):
        parameters = dict(locals())
        super().__init__(event_shape, parameters=parameters, name=name)
        self.loc = self._add_weight(tf.zeros(self._channels, dtype), "loc")
        self.log_scale = self._add_weight(tf.zeros(self._channels, dtype), "log_scale")

    def _forward_and_log_det(self, z, training=False):
        return z * tf.exp(self.log_scale) + self.loc, -self._log_det(z)

    def _inverse_and_log_det(self, x, training=False):
        return (x - self.loc) * tf.exp(-self.log_scale), self._log_det(x)

    def _forward_map(self):
        return tf.linalg.diag(tf.exp(self.log_scale)), tf.convert_to_tensor(self.loc)

    def _inverse_map(self):
        scale = tf.exp(-self.log_scale)
        return tf.linalg.diag(scale), -self.loc * scale

    def _channel_log_det(self):
        return -tf.reduce_sum(self.log_scale)

    def adapt(self, x):
        x = tf.convert_to_tensor(x)
        mean, variance = tf.nn.moments(x, axes=list(range(x.shape.rank - 1)))
        self.loc.assign(mean)
        # A feature that is constant in the batch is left as it is: its scale cannot be known.
        self.log_scale.assign(tf.where(variance > tf.square(1e-6 * mean), 0.5 * tf.math.log(variance), 0.0))
        return super().adapt(x)

    def is_adapted(self):
        return bool(tf.reduce_any(self.loc != 0.0) | tf.reduce_any(self.log_scale != 0.0))
