"""Monotone rational-quadratic splines with parameters of their own for each value: evaluation, slope, and inverse."""

import itertools

import numpy as np
import tensorflow as tf

from tfp_hybrid import _compat
from tfp_hybrid.execution import is_for_xla

LEAST = 1e-2  # the least slope of a knot, and the least width and height of a bin relative to their means
UNIT_SLOPE = float(np.log(np.e - 1))  # where softplus is 1


def spline(x, raw, bound: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Evaluates monotone splines on [-bound, bound], which are the identity outside.

        y = y_k + h (s t^2 + d_k t u) / c,             t = (x - x_k) / w,   u = 1 - t,   s = h / w
        dy/dx = (s / c)^2 (d_k+1 t^2 + 2 s t u + d_k u^2),     c = s + (d_k + d_k+1 - 2 s) t u

    (x_k, y_k) is the knot to the left of x, d the slopes of the knots, w and h the width and height of the bin. The
    widths and the heights are a softmax that divides the interval, and the slopes are a softplus. All are bounded away
    from zero, so that the spline can be inverted.

    Args:
      x: The values, of any shape.
      raw: The raw widths of K bins, their raw heights, and the raw slopes of the K - 1 inner knots, any real numbers,
        `(..., 3 K - 1)`; all but the last axis broadcast with x. Zeros are the identity. The outer knots have slope 1.
      bound: The end of the interval.

    Returns:
      y and log(dy/dx), of the shape of x and raw after broadcasting.

    References:
      Gregory and Delbourgo 1982, "Piecewise rational quadratic interpolation to monotonic data"; Durkan, Bekasov,
      Murray and Papamakarios 2019, "Neural Spline Flows", section 3 and appendix A.
    """
    x, raw = _broadcast(x, raw)
    outside = tf.abs(x) >= bound
    within = tf.where(outside, tf.zeros_like(x), x)  # of which all gradients are finite
    (left, bottom), (width, height), slopes = _bins(within, raw, bound, searched=0)
    y, log_slope = _piece((within - left) / width, bottom, height, height / width, *slopes)
    return tf.where(outside, x, y), tf.where(outside, tf.zeros_like(x), log_slope)


def inverse_spline(y, raw, bound: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Solves y = g(x) for the splines of `spline`, and returns x and log(dx/dy)."""
    y, raw = _broadcast(y, raw)
    outside = tf.abs(y) >= bound
    within = tf.where(outside, tf.zeros_like(y), y)
    (left, bottom), (width, height), (d0, d1) = _bins(within, raw, bound, searched=1)
    s, v = height / width, (within - bottom) / height
    excess = v * (d0 + d1 - 2 * s)
    a, b = s - d0 + excess, d0 - excess  # a t^2 + b t = s v
    t = 2 * s * v / (b + tf.sqrt(b * b + 4 * a * s * v))
    _, log_slope = _piece(t, bottom, height, s, d0, d1)
    return tf.where(outside, y, left + t * width), tf.where(outside, tf.zeros_like(y), -log_slope)


def _broadcast(value, raw):
    if value.shape.is_fully_defined() and value.shape == raw.shape[:-1]:
        return value, raw
    static = tf.broadcast_static_shape(value.shape, raw.shape[:-1])
    shape = tf.broadcast_dynamic_shape(tf.shape(value), tf.shape(raw)[:-1])
    value, raw = tf.broadcast_to(value, shape), tf.broadcast_to(raw, tf.concat([shape, raw.shape[-1:]], 0))
    return tf.ensure_shape(value, static), tf.ensure_shape(raw, [*static, raw.shape[-1]])


def _piece(t, bottom, height, s, d0, d1):
    """Returns y and log(dy/dx) at t of a bin."""
    u = 1 - t
    tu, slope0 = t * u, d0 * u
    c = s + (d0 + d1 - 2 * s) * tu
    y = bottom + height * t * (s * t + slope0) / c
    return y, tf.math.log((d1 * t * t + 2 * s * tu + slope0 * u) * tf.square(s / c))


def _bins(value, raw, bound, searched):
    """Returns the bin in which each value lies.

    Bins are found and read by comparisons and sums, without indices, which is several times faster than searching and
    gathering on a CPU. The gradient is written by hand, since a value meets only its own bin.

    Args:
      value, raw: As in `spline`, after broadcasting.
      bound: The end of the interval.
      searched: 0 if the values are x, 1 if they are y.

    Returns:
      Of the shape of the values each: the left and lower end of the bin, its width and height, and the slopes of its
      knots.
    """
    bins = (raw.shape[-1] + 1) // 3
    axis = -1 if is_for_xla() else -2  # of the bins; outside of XLA, operations are fast along the values
    from_start = tf.expand_dims(tf.reshape(value + bound, [-1]), axis)

    @_compat.custom_gradient
    def function(raw):
        rows = tf.reshape(raw, [-1, 3 * bins - 1])
        *logits, raw_slopes = tf.split(rows if axis == -1 else tf.transpose(rows), [bins, bins, bins - 1], axis)
        logits = tf.stack(logits)
        softmax = tf.exp(logits - tf.reduce_max(logits, axis, keepdims=True))
        softmax /= tf.reduce_sum(softmax, axis, keepdims=True)
        sizes = 2 * bound * (LEAST / bins + (1 - LEAST) * softmax)
        knots = tf.stack(list(itertools.accumulate(tf.unstack(sizes[searched], axis=axis)[:-1])), axis)
        reached = tf.cast(from_start >= knots, raw.dtype)
        before = tf.concat([reached, tf.zeros_like(from_start)], axis)  # 1 for bins left of the value's own
        inside = tf.concat([tf.ones_like(from_start), reached], axis) - before  # 1 for its own
        left_knot, right_knot = tf.split(inside, [1, bins - 1], axis)[1], tf.split(inside, [bins - 1, 1], axis)[0]
        ends, spans = (tf.reduce_sum(mask * sizes, axis) for mask in (before, inside))
        slopes = tf.stack([tf.reduce_sum(mask * raw_slopes, axis) for mask in (left_knot, right_knot)])

        def gradient(dends, dspans, dslopes):
            dends, dspans, dslopes = (tf.expand_dims(d, axis) for d in (dends, dspans, dslopes))
            dsizes = before * dends + inside * dspans
            dshares = dsizes - tf.reduce_sum(softmax * dsizes, axis, keepdims=True)
            dlogits = 2 * bound * (1 - LEAST) * softmax * dshares
            draw = tf.concat([*tf.unstack(dlogits), left_knot * dslopes[0] + right_knot * dslopes[1]], axis)
            return tf.reshape(draw if axis == -1 else tf.transpose(draw), tf.shape(raw))

        return (ends - bound, spans, slopes), gradient

    corners, spans, raw_slopes = function(raw)
    slopes = LEAST + (1 - LEAST) * tf.math.softplus(raw_slopes + UNIT_SLOPE)
    return tuple(
        [tf.ensure_shape(tf.reshape(part, tf.shape(value)), value.shape) for part in tf.unstack(pair)]
        for pair in (corners, spans, slopes)
    )
