"""Measures how the time of a training step grows with depth, width, image side and batch size, one at a time."""

import dataclasses
import statistics

import rich.table

from benchmarks import cases, pictures
from benchmarks.power_law import fit_exponent
from benchmarks.process import Worker
from benchmarks.rounds import take_turns
from benchmarks.run import CONSOLE, Run, progress

BASE = cases.Glow(batch=64)
AXES = {
    "steps": (2, 4, 8, 16),
    "hidden": (32, 64, 128, 256),
    "side": (8, 16, 28, 56),
    "batch": (16, 32, 64, 128),
}
QUICK_AXES = {"batch": (2, 4, 8)}
LABELS = {
    "steps": "steps of flow on each level",
    "hidden": "hidden channels",
    "side": "side of the images (pixels)",
    "batch": "batch (images)",
}


def growth(run: Run):
    """Measures, prints the exponents, and writes growth.json and growth.png."""
    base = cases.QUICK_CASES["glow"] if run.quick else BASE
    axes = QUICK_AXES if run.quick else AXES
    with progress((run.rounds + 2) * sum(map(len, axes.values()))) as advance:
        rows = list(_measure(run, base, axes, advance))
    run.write(case=str(base), axes=rows)
    table = rich.table.Table("size", "values", title=f"time of a training step, graph\n{base}, but for one size")
    table.add_column("seconds", justify="right")
    table.add_column("exponent", justify="right")
    for row in rows:
        values = ", ".join(map(str, row["values"]))
        seconds = ", ".join(f"{value:.3f}" for value in row["median_seconds"])
        fit = row["fit"]
        table.add_row(LABELS[row["axis"]], values, seconds, f"{fit['exponent']:.2f} +- {fit['standard_error']:.2f}")
    CONSOLE.print(table)
    pictures.power_laws(rows, LABELS, run.picture)


def _measure(run, base, axes, advance):
    sizes = [(axis, value) for axis in axes for value in axes[axis]]
    tasks = [(dataclasses.replace(base, **{axis: value}), "step") for axis, value in sizes]
    with Worker("tfp_hybrid", "graph", tasks, run.seed) as worker:
        advance("time of a step", len(sizes))
        turns = {size: lambda seconds, i=i: worker.turn(seconds, i)["seconds"] for i, size in enumerate(sizes)}
        seconds = take_turns(turns, run.rounds, run.seconds, advance)
    for axis, values in axes.items():
        rounds = [seconds[axis, value] for value in values]
        medians = [statistics.median(times) for times in rounds]
        fit = fit_exponent(values, medians)
        yield {"axis": axis, "values": values, "seconds": rounds, "median_seconds": medians, "fit": fit}
