"""Preprocessing of integer data by bijectors, so that its log-det is part of log p(x)."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors.dequantize import Dequantize

tfb = tfp.bijectors


def integer_preprocessing(
    event_shape: tuple[int, ...],
    quantization_levels: int = 256,
    logit: bool = False,
    dtype: str = "float32",
    dequantize: Dequantize | None = None,
) -> list[tfb.Bijector]:
    """Builds bijectors, the data side first, that map integers 0 .. L-1 to real numbers.

    Dequantization gives v = x + u in [0, L), which is then mapped to z:

        scaling:  z = v / L - 1/2
        logit:    z = logit(a + (1 - 2a) v / L),  a = 0.05

    Args:
      event_shape: The shape of one data point.
      quantization_levels: The number L of integer values, 256 for 8-bit images.
      logit: Whether to take the logit, as in RealNVP, instead of scaling to [-1/2, 1/2], as in Glow.
      dtype: The dtype of z.
      dequantize: A dequantization of these levels, such as `VariationalDequantize`; by default, a `Dequantize`.

    Returns:
      A list of bijectors for `FusedChain`.

    Raises:
      ValueError: If `dequantize` has another number of levels.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 4.1.
    """
    dequantize = dequantize or Dequantize(event_shape, quantization_levels, dtype)
    if dequantize.quantization_levels != quantization_levels:
        raise ValueError(
            f"integer_preprocessing: `dequantize` has {dequantize.quantization_levels} levels; wanted "
            f"{quantization_levels}, the `quantization_levels`."
        )
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
