"""Fits the exponent of a power law."""

import numpy as np


def fit_exponent(values, seconds) -> dict:
    """Fits `log seconds = exponent * log value + constant` by least squares.

    Args:
      values: At least three sizes.
      seconds: The times for these sizes.

    Returns:
      A dict of the `exponent`, its `standard_error`, and `seconds_at_1`, which is exp(constant).
    """
    x, y = np.log(values), np.log(seconds)
    centered = x - x.mean()
    exponent = centered @ y / (centered @ centered)
    constant = y.mean() - exponent * x.mean()
    residuals = y - exponent * x - constant
    variance = residuals @ residuals / (len(x) - 2)
    return {
        "exponent": float(exponent),
        "standard_error": float(np.sqrt(variance / (centered @ centered))),
        "seconds_at_1": float(np.exp(constant)),
    }
