"""`Tally`: what is counted of rows that were scored."""

import dataclasses
from fractions import Fraction

import numpy as np

from tfp_hybrid.uncertainty.monitoring.exact import exact_sum
from tfp_hybrid.uncertainty.monitoring.sketch import Sketch, cumulative

NON_FINITE = ("above", "below", "nan")


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts of rows, which add up exactly.

    Attributes:
      rows: The number of rows.
      abstentions: On how many of them the model abstained.
      above, below, nan: How many scores are +inf, -inf and NaN.
      sum: The exact sum of the finite scores.
      sketch: Where the finite scores are.
    """

    rows: int
    abstentions: int
    above: int
    below: int
    nan: int
    sum: Fraction
    sketch: Sketch

    @classmethod
    def of(cls, scores: np.ndarray, abstain: np.ndarray, cells: Sketch) -> "Tally":
        """Counts rows by their scores and abstentions, `(n,)`, in the cells of a sketch."""
        finite = scores[np.isfinite(scores)]
        above, below, nan = (int(which.sum()) for which in (scores == np.inf, scores == -np.inf, np.isnan(scores)))
        return cls(len(scores), int(abstain.sum()), above, below, nan, exact_sum(finite), cells.of(finite))

    def __add__(self, other: "Tally") -> "Tally":
        names = [field.name for field in dataclasses.fields(self)]
        return Tally(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def finite(self) -> int:
        """The number of finite scores."""
        return self.rows - self.above - self.below - self.nan

    @property
    def mean(self) -> float:
        """The mean of the finite scores; NaN without any."""
        return float(self.sum / self.finite) if self.finite else np.nan


def histograms(*tallies: Tally) -> list[np.ndarray]:
    """Returns the counts of the scores of each tally in common cells: -inf, finite scores, and +inf with NaN."""
    inside = cumulative(*(tally.sketch for tally in tallies))
    return [
        np.r_[tally.below, np.diff(counts, prepend=0), tally.above + tally.nan]
        for tally, counts in zip(tallies, inside, strict=True)
    ]
