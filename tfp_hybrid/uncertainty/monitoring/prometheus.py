"""A monitor in the text format that Prometheus reads."""

import math
import re
from collections.abc import Mapping

import numpy as np

from tfp_hybrid.uncertainty.drift.score_tests import DriftTest
from tfp_hybrid.uncertainty.monitoring.setup import Setup
from tfp_hybrid.uncertainty.monitoring.tally import NON_FINITE, Tally

_PREFIX = "tfp_hybrid"
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)  # of the held-out scores, where the buckets of the histogram end
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OURS = ("score", "le", "quantile", "value", "test")


def check_labels(labels: Mapping[str, str]):
    """Raises ValueError unless `labels` are names and texts that Prometheus takes and the metrics do not use."""
    for name, value in labels.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("__") or name in _OURS:
            raise ValueError(
                f"labels has the name {name!r}; wanted letters, digits and _, and none of {', '.join(_OURS)}."
            )
        if not isinstance(value, str):
            raise ValueError(f"labels has the value {value!r} for {name}; wanted text.")


def exposition(
    setup: Setup, total: Tally, newest: tuple[Tally, list[DriftTest]] | None, labels: Mapping[str, str]
) -> str:
    """Returns the text.

    Args:
      setup: The monitor's setup.
      total: The tally of all rows.
      newest: The tally of the newest window and its tests against the held-out rows, if there is one.
      labels: More labels for all metrics.
    """
    lines = _Lines({"score": setup.title, **labels})
    lines.metric("rows_total", "counter", "Rows that were scored.", [({}, total.rows)])
    lines.metric("abstentions_total", "counter", "Rows on which the model abstained.", [({}, total.abstentions)])
    non_finite = [
        ({"value": value}, getattr(total, name))
        for name, value in zip(NON_FINITE, ("+Inf", "-Inf", "NaN"), strict=True)
    ]
    lines.metric("non_finite_scores_total", "counter", "Scores that are infinite or NaN.", non_finite)
    lines.metric("threshold", "gauge", "The score above which the model abstains.", [({}, setup.threshold)])

    ends = setup.ends(_PERCENTILES)
    counts = total.below + total.sketch.at_most(ends)
    buckets = [*zip(map(number, ends.tolist()), counts.tolist(), strict=True), ("+Inf", total.rows)]
    samples = [({"le": end}, count, "_bucket") for end, count in buckets]
    samples += [({}, float(total.sum), "_sum"), ({}, total.rows, "_count")]
    help_text = "Scores, by percentiles of the held-out scores and the threshold; the sum is of the finite ones."
    lines.metric("score", "histogram", help_text, samples)
    values = total.sketch.quantiles(np.array(_QUANTILES)).tolist()
    samples = [({"quantile": number(q)}, value, "") for q, value in zip(_QUANTILES, values, strict=True)]
    samples += [({}, float(total.sum), "_sum"), ({}, total.finite, "_count")]
    lines.metric("finite_score", "summary", "Quantiles of the finite scores, within 1 %.", samples)
    if newest is not None:
        tally, tests = newest
        lines.metric("window_rows", "gauge", "Rows in the newest window.", [({}, tally.rows)])
        share = tally.abstentions / tally.rows
        lines.metric("window_abstention_ratio", "gauge", "Share of abstentions in the newest window.", [({}, share)])
        for name, what, help_text in (
            ("window_drift_p_value", "p_value", "p-value of the newest window against the held-out rows."),
            ("window_drift_effect_size", "effect_size", "Cliff's delta of the scores, change of the abstention share."),
        ):
            lines.metric(name, "gauge", help_text, [({"test": test.name}, getattr(test, what)) for test in tests])
    return str(lines)


class _Lines:
    """The lines of a text, with labels that all samples have."""

    def __init__(self, labels):
        self.labels, self.lines = labels, []

    def metric(self, name, kind, help_text, samples):
        """Adds a metric; each sample is its labels, its value and a suffix of the name or none."""
        name = f"{_PREFIX}_{name}"
        self.lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        for labels, value, *suffix in samples:
            pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in (self.labels | labels).items())
            self.lines.append(f"{name}{''.join(suffix)}{{{pairs}}} {number(value)}")

    def __str__(self):
        return "\n".join([*self.lines, ""])


def number(value: float) -> str:
    """Formats a number as Prometheus reads it."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return repr(value)


def _escaped(text):
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
