"""The location and scale of data, for initialization."""

import numpy as np
import tensorflow as tf

_ROUNDING_UNITS = 8  # the standard deviation, in units of the last place, that rounding alone may give a constant


def location_and_scale(x) -> tuple[tf.Tensor, tf.Tensor]:
    """Computes the mean of each column in float64, and a positive scale: the standard deviation unless it is zero.

    A column counts as constant if its standard deviation is at most 8 eps |mean|, where eps is the resolution of the
    dtype of x; such variation may come from rounding alone. The scale of a constant column is set to 1, or to
    eps |mean| if that is larger, so that a value with a different rounding stays close to the mean.

    Args:
      x: `(n, ...)`, a floating-point tensor.

    Returns:
      The location and the scale, both float64 of shape `(...)`, with scale > 0.
    """
    resolution = np.finfo(x.dtype.as_numpy_dtype).eps
    x = tf.cast(x, tf.float64)
    origin = x[0]  # makes constants exactly 0, and keeps a large mean from costing the variance digits
    mean, variance = tf.nn.moments(x - origin, axes=[0])
    mean, stddev = mean + origin, tf.sqrt(variance)
    rounding = resolution * tf.abs(mean)
    return mean, tf.where(stddev > _ROUNDING_UNITS * rounding, stddev, tf.maximum(rounding, 1.0))
