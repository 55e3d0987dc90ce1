"""Preprocessing of integer data by bijectors, so that its log-det counts."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors.dequantize import Dequantize

tfb = tfp.bijectors


def integer_preprocessing(event_shape, levels=256, logit=False, dtype="float32") -> list:
    """Returns bijectors, the data side first, that map integers 0 .. levels-1 to real numbers.

    Dequantization, then with v = x + u in [0, levels):

        scaling:  z = v / levels - 1/2
        logit:    z = logit(a + (1 - 2a) v / levels),  a = 0.05

    Args:
      event_shape: shape of one data point.
      levels: number of integer values, 256 for 8-bit images.
      logit: take the logit, as RealNVP; otherwise scale to [-1/2, 1/2], as Glow.
      dtype: of z.

    Returns:
      A list of bijectors for `FusedChain`.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 4.1.
    """
    dequantize = Dequantize(event_shape, levels, dtype)
    if not logit:
        return [
            dequantize,
            tfb.Scale(tf.constant(levels, dtype)),
            tfb.Shift(tf.constant(0.5, dtype)),
        ]
    margin = 0.05 / (1 - 2 * 0.05) * levels
    return [
        dequantize,
        tfb.Sigmoid(low=tf.constant(-margin, dtype), high=tf.constant(levels + margin, dtype)),
    ]
