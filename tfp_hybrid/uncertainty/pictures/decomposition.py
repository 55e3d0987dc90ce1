"""A plot of the two parts of uncertainty."""

from collections.abc import Mapping

import matplotlib.figure
import numpy as np

from tfp_hybrid.uncertainty.decomposition import Decomposition
from tfp_hybrid.uncertainty.pictures.style import COLOURS, styled

_MOST_POINTS = 1000  # of a set


@styled
def decomposition(sets: Mapping[str, Decomposition], unit: str = "nats") -> matplotlib.figure.Figure:
    """Plots the epistemic part of each input's uncertainty against the aleatoric part, with a colour for each set.

    To the right are inputs whose response is noise, however many rows the model sees; at the top are those that more
    rows would settle. A cross marks the median of each set.

    Args:
      sets: What `uncertainty.decompose` returned for each set of inputs, by its name. Of a set of more than 1,000
        inputs, 1,000 evenly spaced ones are drawn.
      unit: The unit of the uncertainty: "nats" for classes, or that of a variance.

    Raises:
      ValueError: If there are no sets, if one has no inputs, or has several responses.
    """
    if not sets:
        raise ValueError("sets is empty; wanted at least one named `Decomposition`.")
    for name, parts in sets.items():
        if np.ndim(parts.total) != 1 or not len(parts.total):
            raise ValueError(f"sets[{name!r}] has shape {np.shape(parts.total)}; wanted (n,), of one response.")
    figure = matplotlib.figure.Figure(figsize=(5.5, 4.2))
    axes = figure.subplots()
    for (name, parts), colour in zip(sets.items(), [*COLOURS] * len(sets), strict=False):
        step = max(1, len(parts.total) // _MOST_POINTS)
        aleatoric, epistemic = parts.aleatoric[::step], parts.epistemic[::step]
        axes.scatter(aleatoric, epistemic, s=6, alpha=0.35, color=colour, linewidths=0, label=name, rasterized=True)
        middle = np.median(parts.aleatoric), np.median(parts.epistemic)
        axes.plot(*middle, "x", color=colour, markersize=11, markeredgewidth=2.5)
    axes.set_xlabel(f"aleatoric: noise of y  [{unit}]")
    axes.set_ylabel(f"epistemic: too few rows  [{unit}]")
    for handle in axes.legend().legend_handles:
        handle.set(alpha=1.0, sizes=[30])
    return figure
