"""A warning of predictions that have overflowed."""

import warnings

import numpy as np
import tensorflow as tf


def warn_of_nan(predictions):
    """Returns `predictions`, and warns if some of them are NaN."""
    for part in tf.nest.flatten(predictions):
        values = part if isinstance(part, (np.ndarray, tf.Tensor)) else np.zeros(0)
        if values.ndim and values.dtype in (np.float16, np.float32, np.float64):
            values = np.asarray(values)
            rows = np.flatnonzero(np.isnan(values.reshape(len(values), -1)).any(axis=1)) if values.size else ()
            if len(rows):
                warnings.warn(
                    f"{len(rows)} of {len(values)} inputs, the first in row {rows[0]}, are so far out that their "
                    "latent overflows (log p(x) is -inf): their prediction is NaN.",
                    stacklevel=3,
                )
    return predictions
