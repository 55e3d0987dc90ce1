"""Location and scale of data, for what is initialized from them."""

import numpy as np
import tensorflow as tf

_FEW = 8  # units in the last place: what rounding alone can make of a constant


def location_and_scale(x) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation of each column, computed in float64; with a scale that one can divide by.

    A column counts as constant if its standard deviation is at most 8 eps |mean|, with eps the resolution of x's dtype:
    what varies then is how its values were rounded. Its scale cannot be known. It is set to 1, or to the resolution
    of its values where that is more, so that a value that was rounded otherwise is not far from the mean.

    Args:
      x: `(n, ...)`, a floating tensor.

    Returns:
      location and scale, float64 of shape `(...)`; scale > 0.
    """
    resolution = np.finfo(x.dtype.as_numpy_dtype).eps
    x = tf.cast(x, tf.float64)
    origin = x[0]  # constants are then exactly 0, and a large mean takes no digits from the variance
    mean, variance = tf.nn.moments(x - origin, axes=[0])
    mean, stddev = mean + origin, tf.sqrt(variance)
    rounding = resolution * tf.abs(mean)
    return mean, tf.where(stddev > _FEW * rounding, stddev, tf.maximum(rounding, 1.0))
