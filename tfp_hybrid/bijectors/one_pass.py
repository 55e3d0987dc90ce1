"""Evaluation of bijectors in one pass for the value and the log-determinant.

These functions take any `tfb.Bijector`. They look inside `tfb.Chain` and `tfb.Invert`, so that our bijectors in them
are evaluated once for both.
"""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat
from tfp_hybrid.bijectors.base import FusedBijector

tfb = tfp.bijectors


def inverse_and_log_det(
    bijector: tfb.Bijector, x, event_ndims: int | None = None, training: bool = False, condition=None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes `z = bijector.inverse(x)` and `log|det dz/dx|`, evaluating each network of our bijectors once.

    It also does so inside `tfb.Chain` and `tfb.Invert`. Other TFP bijectors are evaluated through `inverse` and
    `inverse_log_det_jacobian`.

    Args:
      bijector: Any `tfb.Bijector`.
      x: `batch_shape + event_shape`.
      event_ndims: The rank of the event; `bijector.inverse_min_event_ndims` if None.
      training: Passed to our bijectors. TFP bijectors take no such argument.
      condition: Passed to those of our bijectors that take one.

    Returns:
      z, `batch_shape + latent_shape`, and the log-det in nats, broadcastable to `batch_shape`.
    """
    inverted = _compat.inverted(bijector)
    if inverted is not None:
        return forward_and_log_det(inverted, x, event_ndims, training, condition)
    if isinstance(bijector, FusedBijector):
        return bijector.inverse_and_log_det(x, event_ndims, training, taken_by(bijector, condition))
    if event_ndims is None:
        event_ndims = bijector.inverse_min_event_ndims
    parts = _compat.parts_of_chain(bijector)
    if parts is not None:
        return chain_inverse_and_log_det(parts, x, event_ndims, training, condition)
    x = tf.identity(x)  # TFP would return cached values, even after the weights have changed
    outputs = bijector.inverse(x), bijector.inverse_log_det_jacobian(x, event_ndims=event_ndims)
    _compat.forget_graph(bijector)
    return outputs


def forward_and_log_det(
    bijector: tfb.Bijector, z, event_ndims: int | None = None, training: bool = False, condition=None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes `x = bijector.forward(z)` and `log|det dx/dz|`; see `inverse_and_log_det`."""
    inverted = _compat.inverted(bijector)
    if inverted is not None:
        return inverse_and_log_det(inverted, z, event_ndims, training, condition)
    if isinstance(bijector, FusedBijector):
        return bijector.forward_and_log_det(z, event_ndims, training, taken_by(bijector, condition))
    if event_ndims is None:
        event_ndims = bijector.forward_min_event_ndims
    parts = _compat.parts_of_chain(bijector)
    if parts is not None:
        return chain_forward_and_log_det(parts, z, event_ndims, training, condition)
    z = tf.identity(z)
    outputs = bijector.forward(z), bijector.forward_log_det_jacobian(z, event_ndims=event_ndims)
    _compat.forget_graph(bijector)
    return outputs


def taken_by(bijector: tfb.Bijector, condition):
    """Returns the condition for a bijector of this package that takes one, and None for others."""
    return None if bijector.condition_shape is None else condition


def inverse_and_log_dets(
    bijector: tfb.Bijector, x, event_ndims: int, training: bool = False, condition=None
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """As `inverse_and_log_det`, with the log-det of each level of a multi-scale flow, the data side first."""
    if isinstance(bijector, FusedBijector):
        return bijector.inverse_and_log_dets(x, event_ndims, training, taken_by(bijector, condition))
    z, log_det = inverse_and_log_det(bijector, x, event_ndims, training, condition)
    return z, [log_det]


def level_sizes(bijector: tfb.Bijector, event_shape: tf.TensorShape) -> list[int]:
    """Returns how many entries of z each level of a multi-scale flow ends in, the data side first.

    A flat z holds them in reverse: the entries of the last level come first.
    """
    if isinstance(bijector, FusedBijector):
        return bijector.level_sizes()
    return [bijector.inverse_event_shape(event_shape).num_elements()]


def chain_inverse_and_log_det(
    bijectors: list[tfb.Bijector], x, event_ndims: int, training: bool = False, condition=None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies the inverses of `bijectors`, first to last, and sums their log-dets."""
    total = 0.0
    for bijector in bijectors:
        next_ndims = bijector.inverse_event_ndims(event_ndims)
        x, log_det = inverse_and_log_det(bijector, x, event_ndims, training, condition)
        total, event_ndims = total + log_det, next_ndims
    return x, total


def chain_forward_and_log_det(
    bijectors: list[tfb.Bijector], z, event_ndims: int, training: bool = False, condition=None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies `bijectors`, last to first, and sums their log-dets."""
    total = 0.0
    for bijector in reversed(bijectors):
        next_ndims = bijector.forward_event_ndims(event_ndims)
        z, log_det = forward_and_log_det(bijector, z, event_ndims, training, condition)
        total, event_ndims = total + log_det, next_ndims
    return z, total


def adapt(bijector: tfb.Bijector, x, condition=None) -> tf.Tensor:
    """Sets the data-dependent weights of all our bijectors inside `bijector`, and returns `inverse(x)`."""
    if isinstance(bijector, FusedBijector):
        return bijector.adapt(x) if bijector.condition_shape is None else bijector.adapt(x, condition)
    parts = _compat.parts_of_chain(bijector)
    if parts is not None:
        for part in parts:
            x = adapt(part, x, condition)
        return x
    return inverse_and_log_det(bijector, x, condition=condition)[0]


def rows_to_adapt(bijector: tfb.Bijector) -> int:
    """Returns how many rows `adapt` needs for good estimates; 1 if there is nothing to adapt."""
    if isinstance(bijector, FusedBijector):
        return bijector.rows_to_adapt
    parts = _compat.parts_of_chain(bijector) or [
        part for part in bijector.submodules if isinstance(part, FusedBijector)
    ]
    return max(map(rows_to_adapt, parts), default=1)


def is_adapted(bijector: tfb.Bijector) -> bool:
    """Returns False if one of our bijectors inside `bijector` has not been adapted yet."""
    if isinstance(bijector, FusedBijector):
        return bijector.is_adapted()
    parts = _compat.parts_of_chain(bijector)
    if parts is not None:
        return all(map(is_adapted, parts))
    return True
