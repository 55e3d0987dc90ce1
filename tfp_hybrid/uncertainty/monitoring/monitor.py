"""`Monitor`: a running summary of what a rejector answered."""

import datetime
import os
import pathlib
import threading
from collections.abc import Mapping

import numpy as np
import pandas as pd

from tfp_hybrid import files
from tfp_hybrid.models import checks
from tfp_hybrid.uncertainty.drift.counted import ks_test_of_counts, share_test
from tfp_hybrid.uncertainty.drift.score_tests import DriftTest
from tfp_hybrid.uncertainty.monitoring import prometheus, state
from tfp_hybrid.uncertainty.monitoring.setup import Setup
from tfp_hybrid.uncertainty.monitoring.tally import Tally, histograms
from tfp_hybrid.uncertainty.monitoring.windows import start_of, window_of_rows
from tfp_hybrid.uncertainty.rejector import Rejector

_SUMMARY = ("rows", "abstention_rate", "non_finite", "mean", "p5", "p50", "p95")
_TESTS = ("ks_p_value", "cliffs_delta", "abstentions_p_value", "abstention_change")
_NEAR = 1e-5  # of a threshold, relatively, where a server's rounding may decide


class Monitor:
    """A running summary of a rejector's answers, which adds up over workers and days.

    It counts rows, abstentions and scores, in all and in windows of time or of rows, and compares each window with the
    scores of the held-out rows that the rejector's threshold was chosen on. It sees answers, not inputs, so nothing is
    computed twice, and it keeps no row. Not even the rejector is kept: a monitor that was read from a file, in a
    process without a model, can do all that a new one can.

    Everything in it is a whole number or an exact sum. So monitors of the same rejector can be added in any order and
    grouping, and give the same state as one monitor that saw all of the rows (`to_json` returns the same text; windows
    of rows need `at` for that).

    Scores are counted in cells (`monitoring.sketch.Sketch`), cut at the percentiles of the held-out scores and at
    numbers of 7 binary digits. So a quantile differs from the exact one by at most 0.8 % of its size, whatever its
    sign; and by at most 1 % in rank, where the scores are distributed like the held-out ones. If more than 6,144 cells
    are occupied, the 0.8 % doubles; 10 million scores of a Cauchy distribution occupy 4,200.

    Args:
      rejector: A `Rejector` with a threshold.
      window: The length of a window: a `datetime.timedelta` of whole seconds, counted from 1970 in UTC, or a number of
        rows.
      keep: The number of windows to keep; of more, those of the latest. The totals count all.

    Raises:
      ValueError: If the rejector has no threshold or is not fitted to its model, or if `window` or `keep` is not
        as above.

    Example:

    >>> from tfp_hybrid.uncertainty import Monitor, NegativeLogProb, Rejector
    >>> model = HybridModel(flow_distribution(bijectors.RealNVP((2,))), heads.Categorical(3))
    >>> x = np.random.default_rng(0).normal(size=(3000, 2)).astype("float32")
    >>> rejector = Rejector(model, NegativeLogProb()).fit_threshold(x[:1000], quantile=0.99)
    >>> workers = [Monitor(rejector, window=500), Monitor(rejector, window=500)]
    >>> for worker, rows in zip(workers, (x[1000:2000], x[2000:])):
    ...     _ = worker.update(rejector.predict(rows, verbose=0))
    >>> day = sum(workers)
    >>> day.rows, day.windows()["rows"].tolist()
    (2000, [1000, 1000])
    """

    def __init__(
        self, rejector: Rejector, window: datetime.timedelta | int = datetime.timedelta(days=1), keep: int = 64
    ):
        if not isinstance(rejector, Rejector):
            raise ValueError(f"rejector is a {type(rejector).__name__}; wanted a Rejector.")
        rejector.check_fitted()
        setup = Setup.of(rejector, window, keep)
        self._set(setup, setup.nothing, {})

    def _set(self, setup, total, windows):
        self._setup, self._total, self._windows, self._lock = setup, total, windows, threading.Lock()

    @classmethod
    def _made(cls, *parts):
        monitor = cls.__new__(cls)
        monitor._set(*parts)
        return monitor

    def update(self, answers: Mapping | pd.DataFrame, at=None) -> "Monitor":
        """Counts a batch.

        Several threads may call it at once.

        Args:
          answers: What the rejector answered, `rejector.predict(x)`, or a server, or a table of such answers: a
            mapping with "score" and "abstain", each `(n,)`. Infinite scores and NaN are counted apart.
          at: For windows of time, when the rows came: seconds since 1970, a `datetime.datetime` with a time zone, or
            `(n,)` of numbers or of `datetime64` in UTC; now by default. For windows of rows, the number of the first
            row, from 0, such as its place in a file; by default, the number of rows counted so far.

        Returns:
          The monitor itself.

        Raises:
          ValueError: If `answers` lacks an entry or their shapes differ, if they are not those of this monitor's
            threshold, or if `at` is not as above. Nothing is counted then.
        """
        scores, abstain = self._checked(answers)
        setup, found = self._setup, {}
        total = Tally.of(scores, abstain, setup.cells)
        with self._lock:
            numbers = window_of_rows(setup.window, at, len(scores), self._total.rows)
            for index in np.unique(numbers)[-setup.keep :].tolist():
                which = numbers == index
                found[index] = Tally.of(scores[which], abstain[which], setup.coarse_cells)
            self._total, self._windows = self._total + total, setup.added(self._windows, found)
        return self

    def __add__(self, other: "Monitor") -> "Monitor":
        if isinstance(other, int) and other == 0:  # where `sum` starts
            return Monitor._made(self._setup, *self._state())
        if not isinstance(other, Monitor):
            return NotImplemented
        self.check_same(other)
        (total, windows), (other_total, other_windows) = self._state(), other._state()
        return Monitor._made(self._setup, total + other_total, self._setup.added(windows, other_windows))

    __radd__ = __add__

    @property
    def title(self) -> str:
        """The title of the rejector's score."""
        return self._setup.title

    @property
    def threshold(self) -> float:
        """The rejector's threshold."""
        return self._setup.threshold

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._total.rows

    @property
    def abstentions(self) -> int:
        """On how many rows the model abstained."""
        return self._total.abstentions

    @property
    def non_finite(self) -> dict[str, int]:
        """How many scores are "Infinity", "-Infinity" and "NaN"."""
        return {"Infinity": self._total.above, "-Infinity": self._total.below, "NaN": self._total.nan}

    @property
    def is_by_time(self) -> bool:
        """Whether the windows are of time, not of rows."""
        return self._setup.is_by_time

    def quantiles(self, q) -> np.ndarray:
        """Returns quantiles of the finite scores, within 0.8 % of their size; NaN without any.

        The quantile of q is the smallest score that a share q of all is at or below (`numpy.quantile` with
        `method="inverted_cdf"`).

        Args:
          q: Numbers from 0 to 1.

        Raises:
          ValueError: If one is not.
        """
        q = checks.reals(q, "q")
        if not ((q >= 0) & (q <= 1)).all():
            raise ValueError(f"q is {q}; wanted numbers from 0 to 1.")
        return self._total.sketch.quantiles(q)

    def tests(self, other: "Monitor | None" = None) -> list[DriftTest]:
        """Tests whether the scores of all rows, and the share of abstentions, differ from those of other rows.

        Args:
          other: A monitor of the same rejector, the reference; by default, the held-out rows of the rejector.

        Returns:
          "KS", the test of `drift.ks_test` on the counts of cells: its statistic is at most that of the scores (against
          the held-out rows, less than it by at most 0.01), its p-value at least. And "abstentions", a chi-square test
          of the shares (for few rows, Fisher's exact test), whose effect size is the change of the share.

        Raises:
          ValueError: If a monitor has no rows, or the monitors are of different rejectors.
        """
        if other is not None:
            self.check_same(other)
        for monitor in (self, other):
            if monitor is not None and not monitor.rows:
                raise ValueError(f"{monitor!r} has no rows; wanted at least one to test.")
        return _tests(self._setup.reference if other is None else other._total, self._total)

    def check_same(self, other: "Monitor"):
        """Raises ValueError unless both are of the same rejector, with the same windows, and so can be added."""
        self._setup.check_same(other._setup)

    def summary(self) -> dict:
        """Returns numbers of all rows.

        They are "rows", "abstention_rate", "non_finite" (the number of such scores), and of the finite scores "mean"
        and the percentiles "p5", "p50" and "p95"; NaN where there are none.
        """
        return _summary(self._total)

    def held_out(self) -> dict:
        """Returns the same as `summary`, of the held-out rows that the threshold was chosen on."""
        return _summary(self._setup.reference)

    def windows(self) -> pd.DataFrame:
        """Returns a table with a row for each window.

        Its columns are "start" (in UTC, or the number of the first row), those of `summary`, and for each of `tests`
        against the held-out rows its p-value and effect size: "ks_p_value" and "cliffs_delta", "abstentions_p_value"
        and "abstention_change". The p-values are of each window alone: without drift, one in twenty is below 0.05.

        Percentiles are within 1 % of the held-out scores in rank, and rough beyond these scores: within 20 %, or a
        factor of two or more if the scores of the window span more than eight orders of magnitude.
        """
        rows = [self._row(index, tally) for index, tally in self._state()[1].items()]
        kinds = dict.fromkeys([*_SUMMARY, *_TESTS], float) | {"rows": "int64", "non_finite": "int64"}
        kinds = {"start": "datetime64[us, UTC]" if self.is_by_time else "int64"} | kinds
        return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)

    def _row(self, index, tally):
        ks, abstentions = _tests(self._setup.reference, tally)
        found = ks.p_value, ks.effect_size, abstentions.p_value, abstentions.effect_size
        start = start_of(index, self._setup.window)
        return {"start": start} | _summary(tally) | dict(zip(_TESTS, found, strict=True))

    def to_json(self) -> str:
        """Returns the state as JSON; monitors of the same rows give the same text."""
        return state.to_json(self._setup, *self._state())

    @classmethod
    def from_json(cls, text: str) -> "Monitor":
        """Returns the monitor of a text that `to_json` returned.

        Raises:
          ValueError: If the text is anything else.
        """
        try:
            return cls._made(*state.from_json(text))
        except ValueError as error:
            raise ValueError(f"text is not a monitor's state: {error}.") from None

    def save(self, path: str | os.PathLike):
        """Writes the state to a `.json` file, replacing an existing file as a whole.

        Raises:
          ValueError: If the path does not end in `.json`.
          OSError: If the file cannot be written.
        """
        if pathlib.Path(path).suffix != ".json":
            raise ValueError(f"path is {path}; wanted a .json file.")
        files.write(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Monitor":
        """Reads a monitor from a file that `save` wrote; it can be updated, added and tested as before.

        Raises:
          ValueError: If the file does not exist, is damaged, or is not a monitor.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            raise ValueError(f"There is no monitor at {path}; wanted a file that `Monitor.save` wrote.")
        try:
            return cls._made(*state.from_json(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path} is damaged or not a file of `Monitor.save`: {error}.") from None

    def prometheus(self, labels: Mapping[str, str] | None = None) -> str:
        """Returns the state in Prometheus' text format, version 0.0.4.

        Counters of rows, abstentions and non-finite scores; a histogram of the scores, which Prometheus can add up over
        workers; a summary with their quantiles; and gauges of the newest window, such as its p-values against the
        held-out rows. The names begin with `tfp_hybrid_`, and all have the label `score`, the title of the score.

        Args:
          labels: More labels, such as {"model": "churn"}; names and texts.

        Raises:
          ValueError: If Prometheus does not take a label.
        """
        labels = {} if labels is None else dict(labels)
        prometheus.check_labels(labels)
        total, windows = self._state()
        tally = windows[max(windows)] if windows else None
        newest = None if tally is None else (tally, _tests(self._setup.reference, tally))
        return prometheus.exposition(self._setup, total, newest, labels)

    def _state(self):
        with self._lock:
            return self._total, self._windows

    def _checked(self, answers):
        """Returns scores in float64 and abstentions; raises ValueError if they are not a rejector's."""
        missing = [name for name in ("score", "abstain") if name not in answers]
        if missing:
            raise ValueError(f"answers has no {' and no '.join(missing)}; wanted what `rejector.predict(x)` returns.")
        scores, abstain = (checks.reals(answers[name], f"answers[{name!r}]") for name in ("score", "abstain"))
        if scores.ndim != 1 or scores.shape != abstain.shape:
            raise ValueError(
                f"answers has scores of shape {scores.shape} and abstentions of shape {abstain.shape}; wanted (n,)."
            )
        expected = ~(scores <= self.threshold)
        wrong = (abstain != expected) & ~np.isclose(scores, self.threshold, rtol=_NEAR, atol=0)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"answers has abstain {abstain[row]:g} for the score {scores[row]:g} (row {row}), but the threshold is "
                f"{self.threshold:g}; wanted the answers of the monitor's own rejector."
            )
        return scores, abstain

    def __eq__(self, other):
        return isinstance(other, Monitor) and self.to_json() == other.to_json()

    __hash__ = None

    def __reduce__(self):
        return Monitor.from_json, (self.to_json(),)

    def __repr__(self):
        total, windows = self._state()
        share = f"{100 * total.abstentions / total.rows:.1f} % abstentions" if total.rows else "no abstentions"
        return (
            f"Monitor({self.title!r}, {total.rows:,} rows, {share}, {len(windows)} windows of "
            f"{self._setup.window_text})"
        )


def _summary(tally):
    rate = tally.abstentions / tally.rows if tally.rows else np.nan
    percentiles = tally.sketch.quantiles(np.array([0.05, 0.5, 0.95])).tolist()
    found = tally.rows, rate, tally.rows - tally.finite, tally.mean, *percentiles
    return dict(zip(_SUMMARY, found, strict=True))


def _tests(reference, new):
    counts = histograms(reference, new)
    shares = ((tally.abstentions, tally.rows) for tally in (reference, new))
    return [ks_test_of_counts(*counts), share_test("abstentions", *shares)]
