"""Affine maps of the channels: the base class of ActNorm and the 1x1 convolution, and their composition."""

import itertools

import tensorflow as tf

from tfp_hybrid.bijectors.base import FusedBijector


class ChannelAffine(FusedBijector):
    """`z = x M + b` on the last axis, with the same M and b at each position of an image.

        log|det dz/dx| = S log|det M|

    with S the number of positions (H * W for images, 1 for vectors). A subclass writes `inverse_map`, `forward_map` and
    `channel_log_det`.

    Args:
      event_shape: `(C,)` or `(H, W, C)`.
      parameters: The constructor's `locals()`.
      name: The prefix of the names of the ops.
    """

    def __init__(self, event_shape: tuple[int, ...], *, parameters: dict, name: str):
        super().__init__(event_shape, parameters=parameters, name=name)
        self.channels = self.event_shape[-1]
        self.positions = self.event_shape.num_elements() // self.channels

    def _forward_and_log_det(self, z, training=False):
        return _apply(z, *self.forward_map()), -self._log_det(z)

    def _inverse_and_log_det(self, x, training=False):
        return _apply(x, *self.inverse_map()), self._log_det(x)

    def _log_det(self, value):
        return self.same_log_det(self.positions * self.channel_log_det(), value)

    def inverse_map(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns M, `(C, C)`, and b, `(C,)`."""
        raise NotImplementedError(f"{type(self).__name__}.inverse_map")

    def forward_map(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the matrix and the shift of the inverse map, from z to x."""
        raise NotImplementedError(f"{type(self).__name__}.forward_map")

    def channel_log_det(self) -> tf.Tensor:
        """Returns log|det M|."""
        raise NotImplementedError(f"{type(self).__name__}.channel_log_det")


class Folded(ChannelAffine):
    """Several `ChannelAffine` maps as one: the small matrices are multiplied first, and x is multiplied once.

    Args:
      bijectors: `ChannelAffine`s with the same event shape, the data side first.
      name: The prefix of the names of the ops.
    """

    def __init__(self, bijectors: list[ChannelAffine], name: str = "folded"):
        parameters = dict(locals())
        self.bijectors = list(bijectors)
        super().__init__(self.bijectors[0].event_shape, parameters=parameters, name=name)

    def inverse_map(self) -> tuple[tf.Tensor, tf.Tensor]:
        return _compose(bijector.inverse_map() for bijector in self.bijectors)

    def forward_map(self) -> tuple[tf.Tensor, tf.Tensor]:
        return _compose(bijector.forward_map() for bijector in reversed(self.bijectors))

    def channel_log_det(self) -> tf.Tensor:
        return sum(bijector.channel_log_det() for bijector in self.bijectors)


def folded(bijectors: list) -> list:
    """Returns the same chain, with each run of consecutive `ChannelAffine`s folded into one."""
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
