"""Gradients of `inverse` without stored activations; the backward pass inverts the flow and recomputes them.

References:
  Gomez, Ren, Urtasun and Grosse 2017, "The reversible residual network".
"""

from collections.abc import Callable

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat
from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.one_pass import inverse_and_log_det
from tfp_hybrid.bijectors.weights import watch, weights_of

tfb = tfp.bijectors


def pull_back(
    bijector: tfb.Bijector, z, dz, dlog_det, event_ndims: int, training: bool = False
) -> tuple[tf.Tensor, tf.Tensor, list]:
    """Computes `FusedBijector.pull_back` for any bijector.

    Args:
      bijector: Any `tfb.Bijector`.
      z: The output of `inverse_and_log_det`.
      dz: The gradient with respect to z.
      dlog_det: The gradient with respect to the log-det, with one entry for each event of rank `event_ndims`.
      event_ndims: The rank of an event of z.
      training: The value that `inverse_and_log_det` was called with.

    Returns:
      x, the gradient with respect to x, and a list with a gradient or None for each of `weights_of(bijector)`.
    """
    if isinstance(bijector, FusedBijector):
        extra = event_ndims - bijector.forward_min_event_ndims
        if extra:
            dlog_det = tf.reshape(dlog_det, tf.concat([tf.shape(dlog_det), [1] * extra], 0))
            dlog_det = tf.broadcast_to(dlog_det, tf.shape(z)[: -bijector.forward_min_event_ndims or None])
        return bijector.pull_back(z, dz, dlog_det, training)
    x = tf.stop_gradient(bijector.forward(z))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        weights = watch(tape, x, weights_of(bijector))
        z, log_det = inverse_and_log_det(bijector, x, bijector.forward_event_ndims(event_ndims), training)
        log_det += tf.zeros_like(dlog_det)  # TFP bijectors may return one log-det for all events
    return x, *tape.gradient((z, log_det), (x, weights), (dz, dlog_det))


def pull_back_chain(
    bijectors: list[tfb.Bijector], z, dz, dlog_det, event_ndims: int, weights: list, training: bool = False
) -> tuple[tf.Tensor, tf.Tensor, list]:
    """Computes `pull_back` of a chain, last bijector to first; the gradients are in the order of `weights`.

    Gradients of a network that several bijectors share are summed.
    """
    gradients = {id(weight): [] for weight in weights}
    for bijector in reversed(bijectors):
        z, dz, found = pull_back(bijector, z, dz, dlog_det, event_ndims, training)
        for weight, gradient in zip(weights_of(bijector), found, strict=True):
            gradients[id(weight)] += [] if gradient is None else [gradient]
        event_ndims = bijector.forward_event_ndims(event_ndims)
    sums = [tf.add_n(parts) if len(parts) > 1 else parts[0] if parts else None for parts in gradients.values()]
    return z, dz, sums


def recomputed_inverse(inverse: Callable, pull_back: Callable, x, slices: list[list]) -> tuple[tuple, list]:
    """Computes `inverse_and_log_det` of steps in sequence, with a gradient that stores only z.

    Args:
      inverse: A function `(weights, x) -> (z, log_det), changed` for one step, given the values of its weights.
      pull_back: A function `(weights, z, dz, dlog_det) -> (x, dx, dweights), changed` for one step.
      x: The input of the first step.
      slices: A list with the values of the weights of each step.

    Returns:
      A pair of `(z, log_det)` and a list with the weights that each step changed, as `inverse` returns them.
    """
    changes, width = [], len(slices[0])

    @_compat.custom_gradient
    def function(x, *flat):
        steps = [list(flat[i * width : (i + 1) * width]) for i in range(len(slices))]
        z, log_dets = tf.stop_gradient(x), []
        for weights in steps:
            (z, log_det), changed = inverse([tf.stop_gradient(weight) for weight in weights], z)
            log_dets.append(log_det)
            changes.append(changed)

        def gradient(dz, dlog_det):
            value, dflat = z, []
            for weights in reversed(steps):
                (value, dz, dweights), _ = pull_back(weights, value, dz, dlog_det)
                dflat = [*dweights, *dflat]
            return _once_differentiable(dz), *map(_once_differentiable, dflat)

        return (z, tf.add_n(log_dets)), gradient

    return function(x, *(value for values in slices for value in values)), changes


def _once_differentiable(gradient):
    message = "Steps: `recompute` is True, so there are no second derivatives; build the flow with recompute=False."
    return gradient if gradient is None else tf.raw_ops.PreventGradient(input=gradient, message=message)
