"""`Setup`: what monitors that can be added have in common."""

import dataclasses
import datetime
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from tfp_hybrid import arguments
from tfp_hybrid.uncertainty.monitoring.sketch import Sketch
from tfp_hybrid.uncertainty.monitoring.tally import Tally
from tfp_hybrid.uncertainty.monitoring.windows import check_window, newest
from tfp_hybrid.uncertainty.rejector import Rejector

# Of all rows: 7 binary digits, that is 0.8 %. Of a window: 2 digits, mostly for scores beyond the held-out ones.
_FINE, _COARSE = {"shift": 46, "most": 6144}, {"shift": 51, "most": 160}


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """The rejector of a monitor, as far as the monitor needs it, and the windows.

    Attributes:
      title: The title of the rejector's score.
      threshold: The rejector's threshold.
      fitted_to: The fingerprint of its model and score.
      edges: The percentiles of the finite held-out scores, and the threshold.
      reference: The `Tally` of the held-out rows.
      window: A `datetime.timedelta` or a number of rows.
      keep: The number of windows to keep.
    """

    title: str
    threshold: float
    fitted_to: int
    edges: np.ndarray
    reference: Tally
    window: datetime.timedelta | int
    keep: int

    @classmethod
    def of(cls, rejector: Rejector, window: datetime.timedelta | int, keep: int) -> "Setup":
        """Returns the setup of a rejector; raises ValueError if `window` or `keep` is wrong."""
        check_window(window)
        arguments.check_count(keep, "keep")
        scores, threshold = rejector.reference, float(rejector.threshold.numpy())
        finite = scores[np.isfinite(scores)]
        percentiles = np.quantile(finite, np.arange(1, 100) / 100, method="inverted_cdf") if len(finite) else []
        edges = np.unique(np.r_[percentiles, [threshold] * bool(np.isfinite(threshold))])
        reference = Tally.of(scores, ~(scores <= threshold), Sketch(edges, **_FINE))
        fitted_to = int(rejector.fitted_to.numpy())
        return cls(rejector.score.title, threshold, fitted_to, edges, reference, window, keep)

    def with_reference(self, reference: Tally) -> "Setup":
        """Returns the same setup with another tally of held-out rows."""
        return dataclasses.replace(self, reference=reference)

    @property
    def cells(self) -> Sketch:
        """The cells of all rows."""
        return Sketch(self.edges, **_FINE)

    @property
    def coarse_cells(self) -> Sketch:
        """The cells of a window."""
        return Sketch(self.edges, **_COARSE)

    @property
    def nothing(self) -> Tally:
        """The tally of no rows."""
        return Tally(0, 0, 0, 0, 0, Fraction(0), self.cells)

    @property
    def window_text(self) -> str:
        """The length of a window, in words."""
        return str(self.window) if self.is_by_time else f"{self.window:,} rows"

    @property
    def is_by_time(self) -> bool:
        """Whether windows are of time, not of rows."""
        return isinstance(self.window, datetime.timedelta)

    def ends(self, percentiles: Sequence[int]) -> np.ndarray:
        """Returns those of `edges` that are these percentiles of the finite held-out scores, and the threshold."""
        counts = self.reference.sketch.at_most(self.edges)
        ranks = np.ceil(np.asarray(percentiles) * self.reference.finite / 100)
        found = self.edges[np.searchsorted(counts, ranks)] if len(self.edges) and self.reference.finite else []
        return np.unique(np.r_[found, self.edges[self.edges == self.threshold]])

    def added(self, windows: dict[int, Tally], others: dict[int, Tally]) -> dict[int, Tally]:
        """Returns windows with those of the same numbers added, as many as are kept."""
        both = windows | {
            index: windows[index] + other if index in windows else other for index, other in others.items()
        }
        return newest(both, self.keep)

    def check_same(self, other: "Setup"):
        """Raises ValueError if monitors of the two setups cannot be added or compared."""
        for what, mine, theirs in (
            ("scores", self.title, other.title),
            ("rejectors, whose models or scores have other weights:", self.fitted_to, other.fitted_to),
            ("thresholds", self.threshold, other.threshold),
            ("windows", self.window_text, other.window_text),
            ("numbers of kept windows", self.keep, other.keep),
        ):
            if mine != theirs:
                raise ValueError(
                    f"The monitors have different {what} {mine!r} and {theirs!r}; wanted monitors of the same rejector "
                    "and windows."
                )
        if not np.array_equal(self.edges, other.edges) or not self.reference == other.reference:
            raise ValueError(
                "The monitors have rejectors whose thresholds were chosen on different rows; wanted monitors of the "
                "same rejector."
            )
