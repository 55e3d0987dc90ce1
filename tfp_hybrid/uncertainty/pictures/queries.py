"""A plot of active learning."""

import matplotlib.figure
import pandas as pd

from tfp_hybrid.uncertainty.pictures.style import COLOURS, styled

_COLUMNS = ("query", "seed", "labels", "error")


@styled
def query_curves(table: pd.DataFrame, error: str = "error") -> matplotlib.figure.Figure:
    """Plots the error against the number of labels for each query: the mean of all seeds, and their range.

    Args:
      table: What `active.simulate` returns, or several such tables together.
      error: The label of the vertical axis.

    Raises:
      ValueError: If the table lacks a column or has no rows.
    """
    missing = [name for name in _COLUMNS if name not in table]
    if missing or not len(table):
        found = f"lacks the columns {missing}" if missing else "has no rows"
        raise ValueError(f"table {found}; wanted what `active.simulate` returns.")
    figure = matplotlib.figure.Figure(figsize=(5.8, 4.0))
    axes = figure.subplots()
    for (query, rows), colour in zip(table.groupby("query", sort=False), [*COLOURS] * len(table), strict=False):
        of_seeds = rows.groupby("labels")["error"]
        mean = of_seeds.mean()
        axes.plot(mean.index, mean, color=colour, label=query)
        axes.fill_between(mean.index, of_seeds.min(), of_seeds.max(), color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="labels", ylabel=error, ylim=(0, None))
    axes.legend()
    return figure
