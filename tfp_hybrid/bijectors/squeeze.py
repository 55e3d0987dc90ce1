"""`Squeeze`: a bijector that moves pixels of an image to channels."""

import tensorflow as tf

from tfp_hybrid.bijectors.base import FusedBijector


class Squeeze(FusedBijector):
    """Trades resolution for channels: each 2 x 2 block of pixels of x becomes the channels of one pixel of z.

        x: (H, W, C)  <->  z: (H/2, W/2, 4C)         log|det dz/dx| = 0

    Args:
      event_shape: The shape `(H, W, C)` of x, with even H and W.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If `event_shape` is not `(H, W, C)` with even H and W.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 3.6.
    """

    def __init__(self, event_shape: tuple[int, int, int], name: str = "squeeze"):
        parameters = dict(locals())
        if len(event_shape) != 3 or event_shape[0] % 2 or event_shape[1] % 2:
            raise ValueError(f"Squeeze: `event_shape` is {tuple(event_shape)}; wanted (H, W, C) with even H and W.")
        height, width, channels = event_shape
        super().__init__(
            event_shape,
            (height // 2, width // 2, 4 * channels),
            parameters=parameters,
            name=name,
        )

    def _forward_and_log_det(self, z, training=False):
        return self._reshaped(z, tf.nn.depth_to_space, self.latent_shape, self.event_shape)

    def _inverse_and_log_det(self, x, training=False):
        return self._reshaped(x, tf.nn.space_to_depth, self.event_shape, self.latent_shape)

    def _reshaped(self, value, op, shape_from, shape_to):
        batch_shape = self.batch_shape_of(value)  # the latent shape has the same rank
        moved = op(tf.reshape(value, [-1, *shape_from]), 2)
        moved = tf.reshape(moved, tf.concat([batch_shape, shape_to], 0))
        return moved, tf.zeros(batch_shape, value.dtype)
