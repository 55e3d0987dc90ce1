"""`Null`: p-values of a statistic from its values in batches without drift."""

import numpy as np

_TAIL = 0.05


class Null:
    """The distribution of a statistic without drift, by draws from it; beyond them, with an exponential tail.

    Up to the 95 % quantile q of n draws, the p-value of a value v is its rank, (1 + #{draws >= v}) / (n + 1). Beyond,

        p(v) = p(q) exp(-(v - q) / s),        s = mean excess of the draws above q,

    the tail of a squared distance between means of many rows. p-values far below 1 / n are extrapolated: an order of
    magnitude.

    Args:
      draws: Values of the statistic without drift, `(n,)`, finite.
    """

    def __init__(self, draws: np.ndarray):
        self._draws = np.sort(np.asarray(draws, float))
        tail = max(1, round(_TAIL * len(self._draws)))
        self._start = self._draws[-tail - 1] if tail < len(self._draws) else self._draws[0]
        self._share = (1 + tail) / (1 + len(self._draws))
        # Equal draws, as of a column that is constant, have no excess; any other value is beyond chance.
        self._scale = max(np.mean(self._draws[-tail:]) - self._start, np.finfo(float).tiny)

    def p_values(self, values: np.ndarray) -> np.ndarray:
        """Returns the p-values of values of the statistic, of the same shape; they are above 0."""
        values = np.asarray(values, float)
        above = len(self._draws) - np.searchsorted(self._draws, values, side="left")
        ranks = (1 + above) / (1 + len(self._draws))
        with np.errstate(over="ignore", invalid="ignore"):
            tail = self._share * np.exp(-np.maximum(values - self._start, 0) / self._scale)
        return np.maximum(np.where(values > self._start, np.minimum(tail, self._share), ranks), np.finfo(float).tiny)
