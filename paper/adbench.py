"""One-class detection: the density of half of the normal rows finds anomalies, on twenty sets of ADBench."""

import pathlib
import time

import matplotlib.figure
import numpy as np

from paper import adbench_data, adbench_methods
from paper.adbench_methods import COMPONENTS, FLOW, FOREST, LOOKS, NEIGHBOUR, NEIGHBOURS, SVM
from paper.results import Job, Place, Result
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.commands.tables import Table, number
from tfp_hybrid.datasets.manual import PathLike
from tfp_hybrid.uncertainty.detection import auroc

TITLE = "Anomalies in tables, by ADBench's one-class protocol"
NEEDED = set(adbench_data.SETS)
ABOUT = "Half of the normal rows train a density, or another method; the other half and the anomalies are the test."
SEEDS, TRAIN_ROWS, TEST_ROWS = 3, 5000, 5000
METHODS = (FLOW, LOOKS, NEIGHBOUR, NEIGHBOURS, FOREST, SVM, COMPONENTS)


def jobs(place: Place, data_dir: PathLike | None = None) -> dict[str, Job]:
    """Returns a job for each set."""
    sizes = {"train_rows": 200, "test_rows": 500} if place.quick else {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS}
    seeds = 1 if place.quick else SEEDS
    settings = {"seeds": list(range(seeds)), **sizes, **adbench_methods.SETTINGS}

    def job(name):
        return Job(settings, lambda: measured(*_read(data_dir, name), seeds, **sizes, quick=place.quick))

    return {name: job(name) for name in adbench_data.SETS}


def measured(x, anomalous, seeds: int, train_rows: int, test_rows: int, quick: bool = False) -> dict:
    """Returns the AUROC of all methods on one set, a list over the seeds for each, and what they took.

    Args:
      x: The rows of the set, `(n, d)`.
      anomalous: Whether each of them is an anomaly, `(n,)`.
      seeds: The number of divisions; their seeds are also those of the trainings.
      train_rows, test_rows: See `adbench_data.split`.
      quick: Whether to train hardly at all.
    """
    found, rows, flows = [], [], {}
    for seed in range(seeds):
        split = adbench_data.split(x, anomalous, seed, train_rows, test_rows)
        features = split.train.shape[1]
        if features not in flows:  # as a rule, each split has the same columns
            flows[features] = adbench_methods.Flow(features, quick)
        started = time.perf_counter()
        flows[features].fit(split, seed)
        seconds = time.perf_counter() - started
        scores = flows[features].scores(split) | adbench_methods.peers(split, seed)
        found.append({method: auroc(*scores[method]) for method in METHODS} | {"seconds": seconds})
        rows.append([len(split.train), len(split.test), len(split.anomalies), features])
        CONSOLE.print(f"  seed {seed}: " + ", ".join(f"{method} {found[-1][method]:.3f}" for method in METHODS))
    return {
        "auroc": {method: [one[method] for one in found] for method in METHODS},
        "training_seconds": [round(one["seconds"], 1) for one in found],
        "rows": dict(zip(("train", "test", "anomalies", "columns"), np.transpose(rows).tolist(), strict=True)),
    }


def tables(results: dict[str, Result]) -> list[Table]:
    """Returns a table of the AUROC of each method on each set."""
    found = {name: results[name].metrics["auroc"] for name in adbench_data.SETS}
    rows = [(name, "", [number(found[name][method], 3) for method in METHODS]) for name in found]
    means = [number(np.mean([found[name][method] for name in found]), 3) for method in METHODS]
    return [Table("AUROC", METHODS, [*rows, ("mean of the sets", "", means)], heading="set")]


def pictures(results: dict[str, Result]) -> dict[str, tuple[matplotlib.figure.Figure, str]]:
    """Returns a picture of the AUROC of the flow and of the neighbours on each set."""
    return {}


def _read(data_dir, name):
    if data_dir is None:
        raise ValueError(f"--data-dir is not given; wanted the folder with the files of {adbench_data.SOURCE}.")
    return adbench_data.read(pathlib.Path(data_dir), name)
