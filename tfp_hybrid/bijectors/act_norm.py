"""`ActNorm`: an affine map for each channel, initialized from data."""

import math

import tensorflow as tf

from tfp_hybrid.bijectors.channel_affine import ChannelAffine
from tfp_hybrid.moments import location_and_scale

_LEAST_TRAINED = 1e-2  # the smallest standard deviation of a channel whose `loc` is trained


class ActNorm(ChannelAffine):
    """A shift and a scale for each channel (the last axis), which `adapt` sets so that the output is standardized.

        z = (x - loc) * exp(-log_scale)         log|det dz/dx| = -S sum_c log_scale_c

    with S the number of positions (H * W for images, 1 for vectors).

    An optimizer moves `loc` by its learning rate in the unit of x, whatever the channel's scale. Where the standard
    deviation is below 0.01, each step would move z far away, so there `loc` stays at the value set by `adapt`.

    Args:
      event_shape: `(C,)` or `(H, W, C)`.
      dtype: The dtype of the weights.
      name: The prefix of the names of the ops.

    References:
      Kingma and Dhariwal 2018, "Glow", section 3.1.
    """

    def __init__(self, event_shape, dtype: str = "float32", name: str = "act_norm"):
        parameters = dict(locals())
        super().__init__(event_shape, parameters=parameters, name=name)
        self.loc = self.add_weight(tf.zeros(self.channels, dtype), "loc")
        self.log_scale = self.add_weight(tf.zeros(self.channels, dtype), "log_scale")

    def _forward_and_log_det(self, z, training=False):
        return z * tf.exp(self.log_scale) + self.loc, -self._log_det(z)

    def _inverse_and_log_det(self, x, training=False):
        return (x - self._trained_loc()) * tf.exp(-self.log_scale), self._log_det(x)

    def forward_map(self) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.linalg.diag(tf.exp(self.log_scale)), tf.convert_to_tensor(self.loc)

    def inverse_map(self) -> tuple[tf.Tensor, tf.Tensor]:
        scale = tf.exp(-self.log_scale)
        return tf.linalg.diag(scale), -self._trained_loc() * scale

    def _trained_loc(self):
        """Returns `loc`, without a gradient in channels of a tiny scale."""
        loc = tf.convert_to_tensor(self.loc)
        return tf.where(self.log_scale < math.log(_LEAST_TRAINED), tf.stop_gradient(loc), loc)

    def channel_log_det(self) -> tf.Tensor:
        return -tf.reduce_sum(self.log_scale)

    def adapt(self, x) -> tf.Tensor:
        """Sets the weights so that each channel of z has mean 0 and standard deviation 1, and returns z."""
        x = tf.convert_to_tensor(x)
        loc, scale = location_and_scale(tf.reshape(x, [-1, self.channels]))
        self.loc.assign(tf.cast(loc, self.loc.dtype))
        self.log_scale.assign(tf.cast(tf.math.log(scale), self.log_scale.dtype))
        return super().adapt(x)

    def is_adapted(self) -> bool:
        """Returns False while the weights still have their initial values."""
        return bool(tf.reduce_any(self.loc != 0.0) | tf.reduce_any(self.log_scale != 0.0))
