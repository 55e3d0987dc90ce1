"""The exponent of a power law."""

import numpy as np


def fit_exponent(values, seconds) -> dict:
    """Least squares of `log seconds = exponent * log value + constant`.

    Args:
      values: at least three numbers.
      seconds: as many times.

    Returns:
      `exponent`, its `standard_error`, and `seconds_at_1`, exp(constant).
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
