"""Plots of drift: of the scores, and of the columns that moved."""

import matplotlib.figure
import numpy as np

from tfp_hybrid.uncertainty import detection
from tfp_hybrid.uncertainty.drift import DriftReport
from tfp_hybrid.uncertainty.pictures.style import COLOURS, styled

_MOST_COLUMNS = 20


@styled
def drift_columns(report: DriftReport, significance: float = 0.05) -> matplotlib.figure.Figure:
    """Plots how far each column moved: by Cliff's delta, with the shift in standard deviations beside it.

    Columns are sorted by how clearly they drifted. The gray bar of each is the largest distance between its
    distribution functions, either way: where it is long and Cliff's delta is small, the column changed its shape, not
    its place, or the share of its holes, which stands beside it if it changed. A category has the gray bar only, the
    total variation distance.

    Args:
      report: A `DriftReport` of inputs that are vectors. Of more than 20 columns, the 20 clearest are drawn.
      significance: The false-alarm rate; columns whose corrected p-value is below it are in colour.

    Raises:
      ValueError: If the report has no columns.
    """
    if not len(report.columns):
        raise ValueError("report.columns is empty; wanted the report of inputs that are vectors.")
    table = report.columns.sort_values(["corrected_p_value", "distance"], ascending=[True, False])[:_MOST_COLUMNS]
    moved = (table["corrected_p_value"] < significance).to_numpy()
    figure = matplotlib.figure.Figure(figsize=(7.6, 1.5 + 0.34 * len(table)))
    axes = figure.subplots()
    places = np.arange(len(table))
    axes.barh(places, 2 * table["distance"], 0.62, -table["distance"], color="0.9", label="distance, either way")
    for which, colour, label in ((moved, COLOURS[1], "drifted"), (~moved, COLOURS[5], "no evidence")):
        which = which & table["cliffs_delta"].notna().to_numpy()
        if which.any():
            deltas = table["cliffs_delta"][which]
            axes.hlines(places[which], 0, deltas, color=colour, linewidth=3)
            axes.plot(deltas, places[which], "o", color=colour, label=f"Cliff's delta: {label}")
    axes.axvline(0, color="black", linewidth=0.8)
    limit = max(0.1, 1.08 * float(table["distance"].max()), 1.08 * float(table["cliffs_delta"].abs().fillna(0).max()))
    for place, (_, column) in zip(places, table.iterrows(), strict=True):
        moved_by = "" if np.isnan(column["shift"]) else f"{column['shift']:+.2f} sd   "
        colour = COLOURS[1] if column["corrected_p_value"] < significance else "black"
        text = f"{moved_by}p {_p(column['corrected_p_value'])}{_holes(column)}"
        axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=colour)
    axes.set(
        xlim=(-limit, limit),
        ylim=(len(table) - 0.5, -0.5),
        xlabel="Cliff's delta: P(new above reference) - P(new below)",
        title=f"{report.rows:,} rows against {report.reference_rows:,} of the reference: p {_p(report.p_value)}",
    )
    axes.set_yticks(places, list(map(str, table.index)))
    axes.grid(axis="y", visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return figure


@styled
def drift_picture(reference, new, label: str = "-log p(x)  [nats]") -> matplotlib.figure.Figure:
    """Plots the distribution functions of reference and new scores, and the largest distance between them.

    Args:
      reference: Scores of in-distribution inputs, `(n,)`.
      new: Scores of the inputs to test, `(m,)`. The largest distance is the statistic of `drift.ks_test`.
      label: The label of the score axis.

    Raises:
      ValueError: If no score is finite, or as `drift.ks_test`.
    """
    figure = matplotlib.figure.Figure()
    axes = figure.subplots()
    reference, new = detection.check_scores(reference, "reference"), detection.check_scores(new, "new")
    both = np.concatenate([reference, new])
    finite = both[np.isfinite(both)]
    if not finite.size:
        raise ValueError("reference and new hold only infinite scores; wanted at least one finite score.")
    low, high = np.quantile(finite, [0.005, 0.995])
    beyond = 0.01 * np.ptp(finite) or 1.0  # where infinite scores are drawn
    edges = finite.min() - beyond, finite.max() + beyond
    at = np.sort(np.clip(both, *edges))
    functions = {}
    for name, scores in (("reference", reference), ("new", new)):
        scores = np.sort(np.clip(scores, *edges))
        functions[name] = np.searchsorted(scores, at, side="right") / len(scores)
        axes.step(at, functions[name], where="post", label=f"{name} ({len(scores):,})")
    place = int(np.argmax(np.abs(functions["new"] - functions["reference"])))
    ends = sorted((functions["new"][place], functions["reference"][place]))
    axes.vlines(at[place], *ends, color="black", label=f"largest distance {ends[1] - ends[0]:.3f}")
    axes.set(xlabel=label, ylabel="fraction of inputs with a lower score", xlim=(low, high))
    axes.legend()
    return figure


def _p(value):
    return "< 0.0001" if value < 1e-4 else f"= {value:.2g}"


def _holes(column):
    before, after = (f"{100 * column[name]:.3g} %" for name in ("reference_holes", "new_holes"))
    return "" if before == after else f"   holes {before} -> {after}"
