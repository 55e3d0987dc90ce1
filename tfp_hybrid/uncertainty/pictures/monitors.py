"""Plots of monitors: the scores and abstentions of their windows."""

import itertools

import matplotlib.figure
import numpy as np
import scipy.stats

from tfp_hybrid.uncertainty.monitoring import Monitor
from tfp_hybrid.uncertainty.pictures.style import COLOURS, styled

_FAR = 20  # times the range of the held-out scores, beyond which the axis is logarithmic


@styled
def monitor_windows(monitors: dict[str, Monitor], significance: float = 0.05) -> matplotlib.figure.Figure:
    """Plots percentiles of the scores, and the share of abstentions, of each window of monitors.

    The bands reach from percentile 5 to 95, and the gray one is that of the held-out rows. Bars at the shares are 95 %
    intervals (Wilson). A window with a ring drifted from the held-out rows: one of its two p-values is below the
    significance, divided by their number.

    Args:
      monitors: A dictionary from names to monitors of one rejector, such as those of two days.
      significance: The false-alarm rate of all windows of a monitor together.

    Raises:
      ValueError: If there are no monitors, if no window has a finite score, or if their rejectors or windows differ.
    """
    tables = {name: monitor.windows() for name, monitor in monitors.items()}
    if not any(np.isfinite(table["p50"]).any() for table in tables.values()):
        raise ValueError("monitors has no window with a finite score; wanted at least one.")
    first = next(iter(monitors.values()))
    for monitor in monitors.values():
        first.check_same(monitor)
    held_out = first.held_out()
    figure = matplotlib.figure.Figure(figsize=(7.6, 5.4))
    scores, shares = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    scores.axhspan(held_out["p5"], held_out["p95"], color="0.88", label="held-out rows")
    scores.axhline(held_out["p50"], color="0.55", linewidth=1)
    shares.axhline(100 * held_out["abstention_rate"], color="0.55", linewidth=1)
    if np.isfinite(first.threshold):
        scores.axhline(first.threshold, color="black", linewidth=1, linestyle="--", label="threshold")
    for (name, table), colour in zip(tables.items(), itertools.cycle(COLOURS), strict=False):
        if table.empty:
            continue
        _draw_scores(scores, table, name, colour)
        _draw_shares(shares, table, colour, significance)
    _scale(scores, tables.values(), held_out)
    scores.set(ylabel=first.title)
    shares.set(ylabel="abstentions  [%]", xlabel="time (UTC)" if first.is_by_time else "row")
    shares.set_ylim(bottom=0)
    handles = [*scores.get_legend_handles_labels()[0], *shares.get_legend_handles_labels()[0][:1]]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    if first.is_by_time:
        figure.autofmt_xdate()
    return figure


def _draw_scores(axes, table, name, colour):
    axes.fill_between(table["start"], table["p5"], table["p95"], color=colour, alpha=0.2, linewidth=0)
    axes.plot(table["start"], table["p50"], "o-", color=colour, markersize=4, label=name)
    for percentile in ("p5", "p95"):
        axes.plot(table["start"], table[percentile], ".-", color=colour, linewidth=0.8, markersize=3)


def _draw_shares(axes, table, colour, significance):
    counts = (table["abstention_rate"] * table["rows"]).round().astype(int)
    intervals = [
        scipy.stats.binomtest(k, n).proportion_ci(method="wilson") for k, n in zip(counts, table["rows"], strict=True)
    ]
    share = table["abstention_rate"].to_numpy()
    errors = np.abs(np.array([[one.low, one.high] for one in intervals]).T - share)
    axes.errorbar(table["start"], 100 * share, 100 * errors, color=colour, fmt="o-", markersize=4, linewidth=1)
    p_values = table[["ks_p_value", "abstentions_p_value"]]
    drifted = p_values.min(axis=1) * p_values.size < significance
    if drifted.any():
        axes.plot(
            table["start"][drifted], 100 * share[drifted], "o", color=colour, markersize=10, fillstyle="none",
            label="ring: drifted from held-out rows",
        )  # fmt: skip


def _scale(axes, tables, held_out):
    """Makes an axis logarithmic beyond the held-out scores if the windows are far from them."""
    drawn = np.concatenate([table[["p5", "p95"]].to_numpy().ravel() for table in tables])
    drawn = np.r_[drawn[np.isfinite(drawn)], held_out["p5"], held_out["p95"]]
    spread = held_out["p95"] - held_out["p5"]
    if np.ptp(drawn) > _FAR * spread > 0:
        linear = {"linthresh": max(abs(held_out["p5"]), abs(held_out["p95"]))}
        axes.set_yscale("log" if drawn.min() > 0 else "symlog", **(linear if drawn.min() <= 0 else {}))
