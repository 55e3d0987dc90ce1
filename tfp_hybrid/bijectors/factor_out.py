"""Multi-scale architecture: half of the channels leave for the latent, the rest goes on."""

import tensorflow as tf

from tfp_hybrid.bijectors import base


class FactorOut(base.FusedBijector):
    """Factors the second half of the channels of x out to the latent; `bijector` transforms the first half.

        z = [bijector.inverse(x[..., :C/2]), flatten(x[..., C/2:])]
        log|det dz/dx| = that of `bijector` at x[..., :C/2]

    Nested, one level inside the other, it is the multi-scale architecture; the latent is a flat vector.

    Args:
      bijector: from a flat latent to `(H, W, C // 2)`: the levels below.
      event_shape: `(H, W, C)` of x, with C >= 2.
      name: prefix of the names of the ops.

    Raises:
      ValueError: if C < 2.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 3.6 and eq. 14-16.
    """

    def __init__(self, bijector, event_shape, name="factor_out"):
        parameters = dict(locals())
        height, width, channels = event_shape
        if channels < 2:
            raise ValueError(f"FactorOut: `event_shape` is {tuple(event_shape)}; wanted at least 2 channels.")
        self.bijector = bijector
        self._kept = channels // 2
        self._out_shape = (height, width, channels - self._kept)
        self._kept_size = bijector.inverse_event_shape((height, width, self._kept)).num_elements()
        super().__init__(event_shape, (height * width * channels,), parameters=parameters, name=name)

    def _forward_and_log_det(self, z, training=False):
        kept, log_det = base.forward_and_log_det(self.bijector, z[..., : self._kept_size], 1, training)
        out = z[..., self._kept_size :]
        out = tf.reshape(out, tf.concat([tf.shape(out)[:-1], self._out_shape], 0))
        return tf.concat([kept, out], -1), log_det

    def _inverse_and_log_det(self, x, training=False):
        kept, log_det = base.inverse_and_log_det(self.bijector, x[..., : self._kept], 3, training)
        return self._join(kept, x), log_det

    def _join(self, kept, x):
        out = x[..., self._kept :]
        flat_shape = tf.concat([tf.shape(out)[:-3], [tf.reduce_prod(self._out_shape)]], 0)
        return tf.concat([kept, tf.reshape(out, flat_shape)], -1)

    def adapt(self, x):
        x = tf.convert_to_tensor(x)
        return self._join(base.adapt(self.bijector, x[..., : self._kept]), x)

    def is_adapted(self):
        return base.is_adapted(self.bijector)
