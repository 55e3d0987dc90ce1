"""Pictures of a training run, in the style of `uncertainty.pictures`; and any picture as text."""

import base64
import io
import math

import matplotlib.figure
import numpy as np

from tfp_hybrid.uncertainty.pictures import styled


@styled
def learning_curves(history: dict[str, list[float]]) -> matplotlib.figure.Figure:
    """Training and validation curves against epochs. history: columns such as "nll" and "val_nll"."""
    names = [name for name in ("error", "rmse", "nll", "bits_per_dim") if name in history]
    if "bits_per_dim" not in names and "log_prob_x" in history:
        names.append("log_prob_x")
    titles = {"error": "error", "rmse": "RMSE", "nll": "-log p(y|x)  [nats]", "bits_per_dim": "bits/dim"}
    figure = matplotlib.figure.Figure(figsize=(3.4 * len(names), 3.2))
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        few = len(history["epoch"]) < 10
        marker = "o" if few else None
        axes.plot(history["epoch"], history[name], marker=marker, label="training")
        if f"val_{name}" in history:
            axes.plot(history["epoch"], history[f"val_{name}"], marker=marker, label="validation")
        values = np.asarray(history[name])
        if name != "log_prob_x" and (values > 0).all() and values.max() > 10 * values.min():
            axes.set_yscale("log")
        if few:
            axes.set_xticks(history["epoch"])
        axes.set(xlabel="epoch", title=titles.get(name, "log p(x)  [nats]"))
    axes.legend()
    return figure


@styled
def column_histograms(real, drawn, names) -> matplotlib.figure.Figure:
    """Histograms of each column of data rows and of samples."""
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = matplotlib.figure.Figure(figsize=(2.6 * columns, 2.2 * rows))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.axis("off")
    for i, (axes, name) in enumerate(zip(grid, names, strict=False)):
        low, high = np.quantile(np.concatenate([real[:, i], drawn[:, i]]), [0.001, 0.999])
        bins = np.linspace(low, high + 1e-6, 40)
        axes.hist(real[:, i], bins, density=True, alpha=0.55, label="test rows")
        axes.hist(drawn[:, i], bins, density=True, alpha=0.55, label="samples")
        axes.set_title(name, fontsize=9)
        axes.set_yticks([])
    grid[0].legend(fontsize=8)
    return figure


def png(figure: matplotlib.figure.Figure) -> str:
    """A picture as base64, for a page that needs no other file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()
