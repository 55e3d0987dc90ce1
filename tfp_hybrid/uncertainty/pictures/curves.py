"""Plots of scores, predictions and training."""

import itertools
import math
from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import scipy.stats
import sklearn.metrics
import tensorflow_probability as tfp

from tfp_hybrid.uncertainty import detection, regression
from tfp_hybrid.uncertainty.classification import Reliability
from tfp_hybrid.uncertainty.pictures.style import COLOURS, styled
from tfp_hybrid.uncertainty.risk_coverage import RiskCoverage


@styled
def log_prob_histograms(log_probs: dict[str, np.ndarray], threshold: float | None = None) -> matplotlib.figure.Figure:
    """Plots histograms of log p(x) of named sets, the in-distribution set first (Fig. 2a of the paper).

    Values beyond the edges are not drawn, because they would squash the rest; the legend says how many there are.

    Args:
      log_probs: A dictionary from names to log p(x) in nats, `(n,)`. NaN counts as -inf.
      threshold: The log p(x) below which a model abstains, for a line.

    Raises:
      ValueError: If the first set has no finite value, or another set is empty.
    """
    return _histograms(log_probs, threshold, "log p(x)  [nats]", sign=1)


@styled
def score_histograms(scores: dict[str, np.ndarray], threshold: float | None = None) -> matplotlib.figure.Figure:
    """As `log_prob_histograms`, of out-of-distribution scores.

    Args:
      scores: A dictionary from names to scores, `(n,)`. NaN counts as inf.
      threshold: The score above which a model abstains, for a line.
    """
    negative = {name: -np.asarray(values) for name, values in scores.items()}
    return _histograms(negative, None if threshold is None else -threshold, "score", sign=-1)


def _histograms(values, threshold, label, sign):
    """Plots `sign * values`, of which low ones are unusual."""
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    edges, fractions = bin_log_probs(values)
    sides = ("left", "right")[::sign]
    for (name, heights), colour in zip(fractions.items(), itertools.cycle(COLOURS)):
        of_set = np.nan_to_num(np.asarray(values[name]), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        below, above = np.mean(of_set < edges[0]), np.mean(of_set > edges[-1])
        inside = heights.copy()
        inside[0], inside[-1] = inside[0] - below, inside[-1] - above
        beyond = [
            f"{'all' if share == 1 else f'{100 * share:.3g} %'} further {side}"
            for share, side in zip((below, above), sides, strict=True)
            if share
        ]
        bars = inside[::sign], sign * edges[::sign]
        axes.stairs(*bars, fill=True, color=colour, alpha=0.35)
        axes.stairs(*bars, color=colour, label=f"{name}: {', '.join(beyond)}" if beyond else name)
    if threshold is not None:
        text = f"threshold: abstains {sides[0]} of it"
        axes.axvline(sign * threshold, color="black", linestyle="--", linewidth=1, label=text)
    axes.set(xlabel=label, ylabel="fraction of inputs", xlim=sorted((sign * edges[0], sign * edges[-1])))
    axes.legend(loc=f"upper {sides[0]}", fontsize=9)
    return figure


def bin_log_probs(log_probs: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Computes histograms of log p(x) of named sets, in common bins around the values of the first set.

    Args:
      log_probs: A dictionary from names to log p(x), `(n,)`, the in-distribution set first.

    Returns:
      The edges of the bins, `(m + 1,)`, and a dictionary from names to the fraction of the set in each bin, `(m,)`.
      Values beyond the edges count in the first or the last bin.

    Raises:
      ValueError: If the first set has no finite value, or another set is empty.
    """
    empty = [name for name, values in log_probs.items() if not np.size(values)]
    if not log_probs or empty:
        raise ValueError(f"log_probs has {'no sets' if not log_probs else f'no values for {empty}'}; wanted some.")
    inside = np.asarray(next(iter(log_probs.values())))
    if not np.isfinite(inside).any():
        raise ValueError(f"log_probs has no finite value for {next(iter(log_probs))!r}; wanted at least one.")
    finite = np.concatenate([np.asarray(values)[np.isfinite(values)] for values in log_probs.values()])
    least, median, most = np.quantile(inside[np.isfinite(inside)], [0.001, 0.5, 1.0])
    low, high = max(finite.min(), median - 6 * (median - least)), min(finite.max(), median + 3 * (most - median))
    if low == high:  # all values are equal
        low, high = low - 1, high + 1
    edges = np.linspace(low, high, 80)
    fractions = {}
    for name, values in log_probs.items():
        clipped = np.clip(np.nan_to_num(values, nan=low, neginf=low, posinf=high), low, high)
        fractions[name] = np.histogram(clipped, edges)[0] / len(values)
    return edges, fractions


@styled
def roc_curves(inside, outside: dict[str, np.ndarray]) -> matplotlib.figure.Figure:
    """Plots ROC curves of a score.

    Args:
      inside: Scores of in-distribution inputs, `(n,)`.
      outside: A dictionary from the names of out-of-distribution sets to their scores.
    """
    figure = matplotlib.figure.Figure(figsize=(4.6, 4.4))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":", label="chance: 0.5")
    for name, scores in outside.items():
        false, true, _ = sklearn.metrics.roc_curve(*detection.labels_and_ranks(inside, scores))
        axes.plot(false, true, label=f"{name}: {detection.auroc(inside, scores):.4f}")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axes.legend(title="AUROC", loc="lower right")
    return figure


@styled
def precision_recall_curves(inside, outside: dict[str, np.ndarray]) -> matplotlib.figure.Figure:
    """Plots precision-recall curves of detecting out-of-distribution inputs; arguments as for `roc_curves`."""
    figure = matplotlib.figure.Figure(figsize=(4.6, 4.4))
    axes = figure.subplots()
    for name, scores in outside.items():
        precision, recall, _ = sklearn.metrics.precision_recall_curve(*detection.labels_and_ranks(inside, scores))
        axes.step(recall, precision, where="post", label=f"{name}: {detection.aupr_out(inside, scores):.4f}")
    axes.set(xlabel="recall", ylabel="precision", ylim=(0, 1.02), aspect="equal")
    axes.legend(title="AUPR", loc="lower left")
    return figure


@styled
def risk_coverage_curves(curves: dict[str, RiskCoverage], risk: str = "risk") -> matplotlib.figure.Figure:
    """Plots the risk of the kept inputs against the fraction that is kept.

    Args:
      curves: A dictionary from names to results of `risk_coverage_curve`.
      risk: The label of the risk axis.
    """
    figure = matplotlib.figure.Figure(figsize=(8.0, 4.0))
    axes = figure.subplots()
    for name, curve in curves.items():
        axes.plot(curve.coverage, curve.risk, label=f"{name}: {curve.aurc:.4f}")
    axes.set(xlabel="coverage: fraction of inputs kept", ylabel=risk, xlim=(0, 1.01))
    axes.legend(title="AURC", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@styled
def reliability_diagram(curves: dict[str, Reliability]) -> matplotlib.figure.Figure:
    """Plots accuracy against confidence, with 95 % intervals (Wilson's), and the number of rows in each bin below.

    Args:
      curves: A dictionary from names to results of `reliability`.
    """
    figure = matplotlib.figure.Figure(figsize=(4.8, 5.6))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="gray", linestyle=":", label="perfect")
    for (name, curve), colour in zip(curves.items(), itertools.cycle(COLOURS)):
        correct = np.rint(curve.accuracy * curve.count).astype(int)
        tests = [scipy.stats.binomtest(k, n) for k, n in zip(correct, curve.count, strict=True)]
        ends = np.array([test.proportion_ci(method="wilson") for test in tests]).T
        errors = np.abs(ends - curve.accuracy)
        above.errorbar(curve.confidence, curve.accuracy, errors, fmt="o", capsize=3, color=colour, label=name)
        below.vlines(curve.confidence, 0.5, curve.count, color=colour, linewidth=4, alpha=0.7)
    above.set(ylabel="accuracy", ylim=(0, 1.03))
    below.set(xlabel="probability of the predicted class", ylabel="rows", yscale="log", xlim=(0, 1.03))
    above.legend(loc="upper left")
    return figure


@styled
def coverage_diagram(predictions: dict[str, tfp.distributions.Distribution], y) -> matplotlib.figure.Figure:
    """Plots the coverage of central predictive intervals against their level.

    Args:
      predictions: A dictionary from names to distributions p(y|x).
      y: The responses.
    """
    figure, axes = _diagonal("level of the predictive interval", "coverage")
    levels = np.linspace(0.05, 0.95, 19)
    for name, p_y in predictions.items():
        axes.plot(levels, regression.interval_coverage(p_y, y, levels), marker="o", label=name)
    axes.legend()
    return figure


@styled
def learning_curves(history: dict[str, list[float]]) -> matplotlib.figure.Figure:
    """Plots training and validation curves against epochs; `history` has columns such as "nll" and "val_nll"."""
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
def column_histograms(real: np.ndarray, drawn: np.ndarray, names: Sequence[str]) -> matplotlib.figure.Figure:
    """Plots a histogram of each column, for the data rows `real` and the samples `drawn`, without holes."""
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure = matplotlib.figure.Figure(figsize=(2.6 * columns, 2.2 * rows))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(names) :]:
        axes.axis("off")
    for i, (axes, name) in enumerate(zip(grid, names, strict=False)):
        known = [part[~np.isnan(part[:, i]), i] for part in (real, drawn)]
        low, high = np.quantile(np.concatenate(known), [0.001, 0.999])
        bins = np.linspace(low, high + 1e-6, 40)
        for values, label in zip(known, ("test rows", "samples"), strict=True):
            axes.hist(values, bins, density=True, alpha=0.55, label=label)
        axes.set_title(name, fontsize=9)
        axes.set_yticks([])
    grid[0].legend(fontsize=8)
    return figure


def _diagonal(xlabel, ylabel):
    figure = matplotlib.figure.Figure(figsize=(4.6, 4.4))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":", label="perfect")
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
    return figure, axes
