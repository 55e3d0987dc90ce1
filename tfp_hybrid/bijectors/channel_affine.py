"""Affine maps of the channels: what ActNorm and the 1x1 convolution have in common, and their composition."""

import itertools

import tensorflow as tf

from tfp_hybrid.bijectors import base


class ChannelAffine(base.FusedBijector):
    """`z = x M + b` on the last axis, with the same M and b at each position of an image.

        log|det dz/dx| = S log|det M|

    with S the number of positions (H * W for images, 1 for vectors). A subclass writes `_inverse_map` and
    `_forward_map`, each of which returns `(matrix, shift)`, and `_channel_log_det`, log|det M|.

    Args:
      event_shape: `(C,)` or `(H, W, C)`.
      parameters: the constructor's `locals()`.
      name: prefix of the names of the ops.
    """

    def __init__(self, event_shape, *, parameters, name):
        super().__init__(event_shape, parameters=parameters, name=name)
        self._channels = self._event_shape[-1]
        self._positions = self._event_shape.num_elements() // self._channels

    def _forward_and_log_det(self, z, training=False):
        return _apply(z, *self._forward_map()), -self._log_det(z)

    def _inverse_and_log_det(self, x, training=False):
        return _apply(x, *self._inverse_map()), self._log_det(x)

    def _log_det(self, value):
        return self._same_log_det(self._positions * self._channel_log_det(), value)

    def _inverse_map(self):
        raise NotImplementedError(f"{type(self).__name__}._inverse_map")

    def _forward_map(self):
        raise NotImplementedError(f"{type(self).__name__}._forward_map")

    def _channel_log_det(self):
        raise NotImplementedError(f"{type(self).__name__}._channel_log_det")


class Folded(ChannelAffine):
    """Several such maps as one: their small matrices are multiplied, instead of the large x one after the other.

    Args:
      bijectors: `ChannelAffine`s of one event shape, the data side first.
      name: prefix of the names of the ops.
    """

    def __init__(self, bijectors, name="folded"):
        parameters = dict(locals())
        self.bijectors = list(bijectors)
        super().__init__(self.bijectors[0].event_shape, parameters=parameters, name=name)

    def _inverse_map(self):
        return _compose(bijector._inverse_map() for bijector in self.bijectors)

    def _forward_map(self):
        return _compose(bijector._forward_map() for bijector in reversed(self.bijectors))

    def _channel_log_det(self):
        return sum(bijector._channel_log_det() for bijector in self.bijectors)


def folded(bijectors) -> list:
    """The same chain, with each run of several `ChannelAffine`s as one."""
    chain = []
    for affine, run in itertools.groupby(bijectors, lambda bijector: isinstance(bijector, ChannelAffine)):
        run = list(run)
        chain += [Folded(run)] if affine and len(run) > 1 else run
    return chain


def _compose(maps):
    matrix, shift = next(maps)
    for next_matrix, next_shift in maps:
        matrix, shift = matrix @ next_matrix, _apply(shift[tf.newaxis], next_matrix, next_shift)[0]
    return matrix, shift


def _apply(x, matrix, shift):
    channels = matrix.shape[0]
    return tf.reshape(tf.nn.bias_add(tf.reshape(x, [-1, channels]) @ matrix, shift), tf.shape(x))
