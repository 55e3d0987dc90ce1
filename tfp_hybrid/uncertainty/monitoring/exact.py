"""`exact_sum`: a sum without rounding, which is the same in any order."""

from fractions import Fraction

import numpy as np

_BITS, _HALF = 53, 27  # of the mantissa of a float64, and of its lower part
_CHUNK = 2**24  # so many halves add up to less than 2^53, the whole numbers that a float64 holds


def exact_sum(values: np.ndarray) -> Fraction:
    """Returns the exact sum of finite numbers, `(n,)` in float64.

    A float64 is a whole number of 53 bits times a power of two. The halves of these whole numbers are summed for each
    power apart, where nothing is rounded.
    """
    total = Fraction(0)
    for start in range(0, len(values), _CHUNK):
        mantissas, exponents = np.frexp(values[start : start + _CHUNK])
        whole = np.ldexp(mantissas, _BITS).astype(np.int64)
        least = int(exponents.min())
        highs, lows = (
            np.bincount(exponents - least, weights=half) for half in (whole >> _HALF, whole & (2**_HALF - 1))
        )
        for place in np.flatnonzero((highs != 0) | (lows != 0)).tolist():
            part = (int(highs[place]) << _HALF) + int(lows[place])
            total += part * Fraction(2) ** (least + place - _BITS)
    return total
