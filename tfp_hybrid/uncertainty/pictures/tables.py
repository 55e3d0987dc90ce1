"""Plots of columns: which ones matter, and which ones make a row unlikely."""

import datetime
import numbers
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import pandas as pd

from tfp_hybrid.uncertainty.pictures.style import COLOURS, styled

_MOST_COLUMNS, _MOST_ROWS, _MOST_BARS = 20, 12, 5
_LONGEST_NAME, _LONGEST_VALUE = 28, 20  # characters
_PANELS = (
    ("p(y|x)", "what the prediction takes from it", "rise of -log p(y|x)  [nats]"),
    ("log p(x)", "how much it depends on the others", "fall of log p(x)  [nats]"),
)


@styled
def column_importance(table: pd.DataFrame) -> matplotlib.figure.Figure:
    """Plots the importance of each column for p(y|x) and for log p(x), with standard errors.

    Columns are in the same order in both panels, the most important for p(y|x) first. An infinite bar ends at the edge
    and says so.

    Args:
      table: What `uncertainty.column_importance` returns; without p(y|x) there is one panel. Of more than 20 columns,
        the 20 most important are drawn.

    Raises:
      ValueError: If the table has no rows, or neither of the two.
    """
    panels = [panel for panel in _PANELS if panel[0] in table]
    if not panels or not len(table):
        raise ValueError("table is no table of `column_importance`; wanted its rows, with 'log p(x)'.")
    sorted_table = table.sort_values([panel[0] for panel in panels], ascending=False)[:_MOST_COLUMNS]
    names = [_cut(name, _LONGEST_NAME) for name in sorted_table.index]
    figure = matplotlib.figure.Figure(figsize=(2.2 + 3.6 * len(panels), 1.4 + 0.3 * len(names)))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, means, label), colour in zip(grid, panels, COLOURS, strict=False):
        errors = sorted_table[f"{title} standard error"].to_numpy()
        _bars(axes, sorted_table[title].to_numpy(), colour, errors)
        axes.set_title(means, fontsize=10)
        axes.set_xlabel(label)
    grid[0].set_yticks(np.arange(len(names)), names, parse_math=False)
    grid[0].set_ylim(len(names) - 0.5, -0.5)
    if len(table) > len(names):
        grid[0].set_ylabel(f"{len(names)} of {len(table):,} columns")
    return figure


@styled
def explanation(
    surprise: pd.DataFrame, values: pd.DataFrame, titles: Sequence[str] | None = None
) -> matplotlib.figure.Figure:
    """Plots the columns that are most responsible for the low density of a few rows, as "age = 412".

    Args:
      surprise: What `uncertainty.explain` returns. Of more than 12 rows, the first 12 are drawn, each with its 5 most
        responsible columns.
      values: The rows themselves, in the same order: a DataFrame with these columns, such as the x of `explain`.
      titles: A text above each row; its index by default.

    Raises:
      ValueError: If there are no rows, if the values lack a column, or if the numbers of rows or titles differ.
    """
    titles = [f"row {i}" for i in surprise.index] if titles is None else list(titles)
    if not surprise.size or not len(surprise) == len(values) == len(titles):
        counts = f"{len(surprise)} rows, values has {len(values)} and titles has {len(titles)}"
        raise ValueError(f"surprise has {counts}; wanted as many of each, at least one.")
    places = {str(name): place for place, name in enumerate(values.columns)}
    missing = [name for name in surprise.columns if str(name) not in places]
    if missing:
        raise ValueError(f"values lacks the columns {missing}; wanted those of surprise.")
    shown, count = min(len(surprise), _MOST_ROWS), min(surprise.shape[1], _MOST_BARS)
    figure = matplotlib.figure.Figure(figsize=(7.0, 0.7 + shown * (0.55 + 0.27 * count)))
    grid = figure.subplots(shown, 1, squeeze=False)[:, 0]
    for row, axes in enumerate(grid):
        nats = surprise.iloc[row].to_numpy(float)
        largest = np.argsort(-nats, kind="stable")[:count]
        names = [str(surprise.columns[i]) for i in largest]
        labels = [
            f"{_cut(name, _LONGEST_NAME)} = {_text(values.iloc[row, places[name]], _LONGEST_VALUE)}" for name in names
        ]
        _bars(axes, nats[largest], COLOURS[1])
        axes.set_yticks(np.arange(count), labels, fontsize=9, parse_math=False)
        axes.set_ylim(count - 0.5, -0.5)
        axes.set_title(titles[row], fontsize=10, loc="left", parse_math=False)
    grid[-1].set_xlabel("gain of log p(x) by a usual value  [nats]")
    return figure


def _bars(axes, values, colour, errors=None):
    """Draws horizontal bars; infinite ones to the edge, and those below 0 in gray."""
    finite = values[np.isfinite(values)]
    if errors is not None:
        whiskers = np.where(np.isfinite(values) & np.isfinite(errors), errors, 0.0)
        low, high = (np.where(np.isfinite(values), values, 0.0) + sign * whiskers for sign in (-1, 1))
        finite = np.concatenate([finite, low, high])
    low, high = min(0.0, finite.min(initial=0.0)), max(0.0, finite.max(initial=0.0))
    room = 0.08 * (high - low) or 1.0
    low, high = (low - room if low or (values == -np.inf).any() else 0.0), high + room
    places = np.arange(len(values))
    axes.barh(places, np.clip(values, low, high), 0.66, color=[colour if value > 0 else COLOURS[5] for value in values])
    if errors is not None:
        drawn = whiskers > 0
        axes.errorbar(values[drawn], places[drawn], xerr=whiskers[drawn], fmt="none", ecolor="black", capsize=2)
    for place in places[np.isinf(values)]:
        end, side = (high, "right") if values[place] > 0 else (low, "left")
        axes.text(end, place, " infinite ", color="white", fontsize=8, ha=side, va="center")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlim(low, high)
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="y", visible=False)


def _cut(text, longest):
    text = " ".join(str(text).split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _text(value, longest):
    """A value as a reader writes it; "missing" for a hole."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "missing"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        is_day = isinstance(value, datetime.datetime) and value.time() == datetime.time()
        return _cut(value.date() if is_day else value, longest)
    is_plain = float(value).is_integer() or abs(value) >= 1000
    return f"{value:.0f}" if is_plain and abs(value) < 1e7 else f"{value:.4g}"
