"""The pictures of a report."""

import math

import matplotlib.figure
import numpy as np
import sklearn.calibration

_STYLE = {"figsize": (6.4, 4.0), "layout": "constrained"}


def learning_curves(history: dict[str, list[float]]) -> matplotlib.figure.Figure:
    """Training and validation curves against epochs. history: columns such as "nll" and "val_nll"."""
    names = [name for name in ("error", "rmse", "nll", "bits_per_dim") if name in history]
    if "bits_per_dim" not in names and "log_prob_x" in history:
        names.append("log_prob_x")
    titles = {"error": "error", "rmse": "RMSE", "nll": "-log p(y|x)  [nats]", "bits_per_dim": "bits/dim"}
    figure = matplotlib.figure.Figure(figsize=(3.4 * len(names), 3.2), layout="constrained")
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
        axes.grid(alpha=0.3)
    axes.legend()
    return figure


def log_prob_histograms(log_probs: dict[str, np.ndarray]) -> matplotlib.figure.Figure:
    """Histograms of log p(x), one colour for each named set; the lowest values are gathered at the left edge."""
    figure = matplotlib.figure.Figure(**_STYLE)
    axes = figure.subplots()
    inside = next(iter(log_probs.values()))
    finite = np.concatenate([values[np.isfinite(values)] for values in log_probs.values()])
    least, median, most = np.quantile(inside[np.isfinite(inside)], [0.001, 0.5, 1.0])
    low, high = max(finite.min(), median - 6 * (median - least)), min(finite.max(), median + 3 * (most - median))
    bins = np.linspace(low, high, 80)
    for name, values in log_probs.items():
        clipped = np.clip(np.nan_to_num(values, nan=low, neginf=low, posinf=high), low, high)
        axes.hist(clipped, bins, weights=np.full(len(values), 1 / len(values)), alpha=0.55, label=name)
    cut = f" (lower ones at {low:.0f})" if finite.min() < low else ""
    axes.set(xlabel=f"log p(x)  [nats]{cut}", ylabel="fraction of inputs")
    axes.legend()
    return figure


def image_grid(images, levels: int, columns: int = 10) -> matplotlib.figure.Figure:
    """Images `(n, H, W, C)` of values 0 .. levels-1 side by side."""
    rows = math.ceil(len(images) / columns)
    figure = matplotlib.figure.Figure(figsize=(0.6 * columns, 0.6 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns).ravel():
        axes.axis("off")
    for axes, image in zip(figure.axes, np.asarray(images) / (levels - 1), strict=False):
        axes.imshow(image.squeeze(), cmap="gray_r", vmin=0, vmax=1)
    return figure


def column_histograms(real, drawn, names) -> matplotlib.figure.Figure:
    """Histograms of each column of data rows and of samples."""
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = matplotlib.figure.Figure(figsize=(2.6 * columns, 2.2 * rows), layout="constrained")
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


def reliability_of_classes(mean, y) -> matplotlib.figure.Figure:
    """Accuracy against the probability of the predicted class. mean: `(n, K)` or `(n,)`; y: `(n,)`."""
    mean = np.stack([1 - mean, mean], -1) if mean.ndim == 1 else mean
    confidence, correct = mean.max(-1), mean.argmax(-1) == y
    accuracy, centre = sklearn.calibration.calibration_curve(correct, confidence, n_bins=10, strategy="quantile")
    return _diagonal(centre, accuracy, "probability of the predicted class", "accuracy")


def reliability_of_intervals(mean, stddev, y) -> matplotlib.figure.Figure:
    """Coverage of central predictive intervals of a Normal against their level. All of shape `(n,)`."""
    levels = np.linspace(0.05, 0.95, 19)
    error = np.vectorize(math.erf)(np.abs(y - mean) / (stddev * math.sqrt(2)))
    coverage = [(error <= level).mean() for level in levels]
    return _diagonal(levels, coverage, "level of the predictive interval", "coverage")


def _diagonal(x, y, xlabel, ylabel):
    figure = matplotlib.figure.Figure(figsize=(4.2, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":", label="perfect")
    axes.plot(x, y, marker="o", label="model")
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    axes.legend()
    return figure
