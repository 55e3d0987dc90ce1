"""Pictures of the commands' results."""

import matplotlib
import numpy as np
from matplotlib import pyplot

from benchmarks.contestants import OURS

matplotlib.use("agg")
HIGHLIGHT, PLAIN = "#1f6fb2", "#b8bfc6"
WORK_TITLES = {"step": "training step", "density": "log p(x) and p(y|x)", "sample": "sampling"}


def bars(rows, title, path):
    """Draws items per second, with a panel for each work and a bar for the fastest variant of each package.

    Args:
      rows: Results of `compare` for one case. A work that is not in `WORK_TITLES` is its own title.
      title: Description of the case.
      path: Path of the .png file.
    """
    works = {work: _fastest(rows, work) for work in dict.fromkeys(row["work"] for row in rows)}
    columns = len(works) if len(works) <= 3 else 2
    panels = list(works.items())
    lines = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    slots = [max(len(shown) for _, shown in line) for line in lines]  # bars of equal height in all panels of a line
    heights = [0.55 + 0.24 * count for count in slots]
    figure, axes = pyplot.subplots(
        len(lines),
        columns,
        figsize=(4.2 * columns, 0.5 + sum(heights)),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    figure.suptitle(f"{title}: items/s", x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel(f"median; line: slowest to fastest; blue: {OURS}", x=0.99, ha="right", fontsize=8, color="#555555")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for i, (axis, (work, shown)) in enumerate(zip(axes.flat, panels, strict=False)):
        axis.set_title(WORK_TITLES.get(work, work), loc="left", fontsize=10)
        _bars(axis, shown[::-1])
        axis.set_ylim(len(shown) - 0.4 - slots[i // columns], len(shown) - 0.4)
    _save(figure, path)


def short_name(library):
    """Returns a short name of a package."""
    return {"tensorflow_probability": "TFP"}.get(library, library)


def _bars(axis, rows):
    rates = [row["items_per_second"] for row in rows]
    errors = [[r["median"] - r["min"] for r in rates], [r["max"] - r["median"] for r in rates]]
    names = [f"{short_name(row['library'])}, {row['variant']}" for row in rows]
    colors = [HIGHLIGHT if row["library"] == OURS else PLAIN for row in rows]
    medians = [rate["median"] for rate in rates]
    axis.barh(names, medians, height=0.75, color=colors, xerr=errors, error_kw={"lw": 1, "ecolor": "#555555"})
    for position, rate in enumerate(rates):
        place = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
        axis.annotate(_short(rate["median"]), (rate["max"], position), **place)
    axis.set_xlim(0, 1.3 * max((rate["max"] for rate in rates), default=1))
    axis.xaxis.set_visible(False)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(left=False, labelsize=9)


def _short(rate):
    """Formats a rate with three digits, such as 113 k or 19.1 M."""
    scale, unit = next(((scale, unit) for scale, unit in ((1e6, " M"), (1e3, " k")) if rate >= scale), (1, ""))
    return f"{float(f'{rate / scale:.3g}'):g}{unit}"


def lines(series, labels, path):
    """Draws a line for each series of points `(x, y)`; `labels` are those of the axes."""
    figure, axis = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for (name, points), color in zip(series.items(), ("#555555", HIGHLIGHT), strict=True):
        x, y = zip(*points, strict=True)
        axis.plot(x, y, "o-", color=color, label=name)
    axis.set_xticks(sorted({x for points in series.values() for x, _ in points}))
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    _save(figure, path)


def power_laws(rows, labels, path):
    """Draws the time against each size on logarithmic axes, with the fitted power law."""
    figure, axes = pyplot.subplots(
        1, len(rows), figsize=(3 * len(rows), 3), sharey=True, squeeze=False, layout="constrained"
    )
    for row, axis in zip(rows, axes[0], strict=True):
        fit, values = row["fit"], np.asarray(row["values"])
        axis.loglog(values, fit["seconds_at_1"] * values ** fit["exponent"], color=PLAIN)
        axis.loglog(values, row["median_seconds"], "o", color=HIGHLIGHT)
        axis.set_title(f"exponent {fit['exponent']:.2f} ± {fit['standard_error']:.2f}", fontsize=10)
        axis.set_xlabel(labels[row["axis"]])
        axis.set_xticks(values, map(str, values))
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("training step (s)")
    _save(figure, path)


def _fastest(rows, work):
    """Returns the fastest variant of each package, the fastest package first."""
    fastest = {}
    for row in rows:
        if row["work"] == work and not row["skipped"]:
            best = fastest.setdefault(row["library"], row)
            if row["items_per_second"]["median"] > best["items_per_second"]["median"]:
                fastest[row["library"]] = row
    return sorted(fastest.values(), key=lambda row: -row["items_per_second"]["median"])


def _save(figure, path):
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
