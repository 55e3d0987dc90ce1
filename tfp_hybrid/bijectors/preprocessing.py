"""Preprocessing of integer data by bijectors, so that its log-det counts."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors.dequantize import Dequantize

tfb = tfp.bijectors


def integer_preprocessing(
    event_shape, quantization_levels: int = 256, logit: bool = False, dtype: str = "float32"
) -> list[tfb.Bijector]:
    """Returns bijectors, the data side first, that map integers 0 .. L-1 to real numbers.

    Dequantization, then with v = x + u in [0, L):

        scaling:  z = v / L - 1/2
        logit:    z = logit(a + (1 - 2a) v / L),  a = 0.05

    Args:
      event_shape: shape of one data point.
      quantization_levels: L, the number of integer values, 256 for 8-bit images.
      logit: take the logit, as RealNVP; otherwise scale to [-1/2, 1/2], as Glow.
      dtype: of z.

    Returns:
      A list of bijectors for `FusedChain`.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 4.1.
    """
    dequantize = Dequantize(event_shape, quantization_levels, dtype)
    if not logit:
        return [
            dequantize,
            tfb.Scale(tf.constant(quantization_levels, dtype)),
            tfb.Shift(tf.constant(0.5, dtype)),
        ]
    margin = 0.05 / (1 - 2 * 0.05) * quantization_levels
    return [
        dequantize,
        tfb.Sigmoid(low=tf.constant(-margin, dtype), high=tf.constant(quantization_levels + margin, dtype)),
    ]
