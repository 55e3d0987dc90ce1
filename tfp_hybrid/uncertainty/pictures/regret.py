"""A plot of bandits."""

from collections.abc import Mapping

import matplotlib.figure
import numpy as np
import pandas as pd

from tfp_hybrid.uncertainty.pictures.style import COLOURS, styled

_COLUMNS = ("regret", "random")


@styled
def regret_curves(tables: Mapping[str, list[pd.DataFrame]]) -> matplotlib.figure.Figure:
    """Plots the regret, added up, of each bandit: the mean of its runs, and their range; and that of random arms.

    Args:
      tables: For the name of each bandit, what `bandits.simulate` returned in each of its runs.

    Raises:
      ValueError: If there are no tables, a table lacks a column, or the runs of a bandit are not of one length.
    """
    if not isinstance(tables, Mapping) or not tables or not all(tables.values()):
        raise ValueError(f"tables is {tables!r}; wanted a list of what `bandits.simulate` returned for each bandit.")
    runs = [(name, table) for name, column in tables.items() for table in column]
    for name, table in runs:
        missing = [column for column in _COLUMNS if column not in table]
        if missing or len(table) != len(tables[name][0]):
            found = (
                f"lacks the columns {missing}" if missing else f"has {len(table)} rows, {len(tables[name][0])} before"
            )
            raise ValueError(f"tables: a table of {name!r} {found}; wanted what `bandits.simulate` returns.")
    figure = matplotlib.figure.Figure(figsize=(5.8, 4.0))
    axes = figure.subplots()
    for (name, column), colour in zip(tables.items(), [*COLOURS] * len(tables), strict=False):
        regret, steps = np.stack([table["regret"] for table in column]), column[0].index
        axes.plot(steps, regret.mean(0), color=colour, label=name)
        axes.fill_between(steps, regret.min(0), regret.max(0), color=colour, alpha=0.15, linewidth=0)
    longest = max((table["random"] for _, table in runs), key=len)
    axes.plot(longest.index, longest, color="0.5", linestyle=":", label="random")
    highest = max(table["regret"].max() for _, table in runs)
    axes.set(xlabel="contexts", ylabel="regret", ylim=(0, 2 * highest or None))
    axes.legend()
    return figure
