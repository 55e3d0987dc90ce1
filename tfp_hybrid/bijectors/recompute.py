"""Gradients of `inverse` without stored activations; the backward pass inverts the flow and recomputes them.

References:
  Gomez, Ren, Urtasun and Grosse 2017, "The reversible residual network".
"""

from collections.abc import Callable

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat
from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.one_pass import forward_and_log_det, inverse_and_log_det
from tfp_hybrid.bijectors.weights import watch, weights_of

tfb = tfp.bijectors


def pull_back(
    bijector: tfb.Bijector, z, dz, dlog_det, condition=None, event_ndims: int | None = None, training: bool = False
) -> tuple:
    """Computes `FusedBijector.pull_back` for any bijector.

    Args:
      bijector: Any `tfb.Bijector`.
      z: The output of `inverse_and_log_det`.
      dz: The gradient with respect to z.
      dlog_det: The gradient with respect to the log-det, with one entry for each event of rank `event_ndims`.
      condition, training: What `inverse_and_log_det` was called with.
      event_ndims: The rank of an event of z.

    Returns:
      x, the gradient with respect to x, the one with respect to the condition, or None, and a list with a gradient or
      None for each of `weights_of(bijector)`.
    """
    if isinstance(bijector, FusedBijector):
        extra = event_ndims - bijector.forward_min_event_ndims
        if extra:
            dlog_det = tf.reshape(dlog_det, tf.concat([tf.shape(dlog_det), [1] * extra], 0))
            dlog_det = tf.broadcast_to(dlog_det, tf.shape(z)[: -bijector.forward_min_event_ndims or None])
        given = () if bijector.condition_shape is None else (condition,)
        return bijector.pull_back(z, dz, dlog_det, training, *given)
    x = tf.stop_gradient(forward_and_log_det(bijector, z, event_ndims, training, condition)[0])
    given = () if condition is None else (condition,)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(given)
        weights = watch(tape, x, weights_of(bijector))
        z, log_det = inverse_and_log_det(bijector, x, bijector.forward_event_ndims(event_ndims), training, condition)
        log_det += tf.zeros_like(dlog_det)  # TFP bijectors may return one log-det for all events
    dx, dgiven, dweights = tape.gradient((z, log_det), (x, given, weights), (dz, dlog_det))
    return x, dx, dgiven[0] if given else None, dweights


def pull_back_chain(
    bijectors: list[tfb.Bijector], z, dz, dlog_det, event_ndims: int, weights: list, training: bool, condition
) -> tuple:
    """Computes `pull_back` of a chain, last bijector to first; the gradients are in the order of `weights`.

    Gradients of the condition, and of a network that several bijectors share, are summed.
    """
    of_condition = []
    gradients = {id(weight): [] for weight in weights}
    for bijector in reversed(bijectors):
        z, dz, dcondition, found = pull_back(bijector, z, dz, dlog_det, condition, event_ndims, training)
        of_condition += [] if dcondition is None else [dcondition]
        for weight, gradient in zip(weights_of(bijector), found, strict=True):
            gradients[id(weight)] += [] if gradient is None else [gradient]
        event_ndims = bijector.forward_event_ndims(event_ndims)
    return z, dz, _sum(of_condition), [_sum(parts) for parts in gradients.values()]


def _sum(gradients):
    return tf.add_n(gradients) if len(gradients) > 1 else gradients[0] if gradients else None


def recomputed_inverse(
    inverse: Callable, pull_back: Callable, x, slices: list[list], condition=None
) -> tuple[tuple, list]:
    """Computes `inverse_and_log_det` of steps in sequence, with a gradient that stores only z.

    Args:
      inverse: A function `(weights, x, condition=) -> (z, log_det), changed` for one step, given the values of its
        weights.
      pull_back: A function `(weights, z, dz, dlog_det, condition=) -> (x, dx, dcondition, dweights), changed` for one
        step.
      x: The input of the first step.
      slices: A list with the values of the weights of each step.
      condition: The condition of all steps, or None.

    Returns:
      A pair of `(z, log_det)` and a list with the weights that each step changed, as `inverse` returns them.
    """
    changes, width, given = [], len(slices[0]), [] if condition is None else [condition]

    @_compat.custom_gradient
    def function(x, *flat):
        condition, flat = (flat[0], flat[1:]) if given else (None, flat)
        steps = [list(flat[i * width : (i + 1) * width]) for i in range(len(slices))]
        fixed = None if condition is None else tf.stop_gradient(condition)
        z, log_dets = tf.stop_gradient(x), []
        for weights in steps:
            (z, log_det), changed = inverse([tf.stop_gradient(weight) for weight in weights], z, condition=fixed)
            log_dets.append(log_det)
            changes.append(changed)

        def gradient(dz, dlog_det):
            value, dflat, of_condition = z, [], []
            for weights in reversed(steps):
                (value, dz, dcondition, dweights), _ = pull_back(weights, value, dz, dlog_det, condition=condition)
                of_condition += [] if dcondition is None else [dcondition]
                dflat = [*dweights, *dflat]
            dflat = [_sum(of_condition)] * len(given) + dflat
            return _once_differentiable(dz), *map(_once_differentiable, dflat)

        return (z, tf.add_n(log_dets)), gradient

    return function(x, *given, *(value for values in slices for value in values)), changes


def _once_differentiable(gradient):
    message = "Steps: `recompute` is True, so there are no second derivatives; build the flow with recompute=False."
    return gradient if gradient is None else tf.raw_ops.PreventGradient(input=gradient, message=message)
