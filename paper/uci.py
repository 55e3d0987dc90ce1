"""Regression on nine sets of UCI: the mean test NLL of p(y|x), by one recipe for all sets.

Finished splits are kept in the CSV file, so that an interrupted run resumes. The work is done split by split over all
sets, so that an interrupted run has about as many splits of each.
"""

import math
import pathlib
import time

import numpy as np
import pandas as pd

from benchmarks.finished import Finished
from benchmarks.run import CONSOLE
from benchmarks.tables_data import UCI, MissingData
from benchmarks.uci_data import SPLITS, Table
from paper import published, uci_models, uci_pictures
from tfp_hybrid import files, heads

SEED = 0
COLUMNS = ["set", "split", "nll", "test_rows", "seconds"]
SETS = tuple(SPLITS)
SCORES, LOWEST, HIGHEST = "wine-quality-red", 3, 8  # integers of a known range
HEADS = {SCORES: lambda: heads.Categorical(HIGHEST - LOWEST + 1, kernel_initializer="glorot_uniform")}
ABOUT = """\
The NLL is -log p(y|x) in nats, of y in its own unit: the mean over a split's test rows, then the mean over the splits
with its standard error. Lower is better. The splits are the standard ones. Wine's scores are integers: its NLL is -log
P(score), of a probability. The published ones are of densities, which have no bound for integers, so they are no
comparison.

In the standard splits, some test rows are training rows, too, with the same x and y: of the first five splits 6.5 % of
protein's, 3.1 % of concrete's, 0.8 % of power-plant's, 27 % of wine's and none of the others'. That helps whoever
remembers training rows, published models included.

Published, not measured here: {source}."""


def run(data: pathlib.Path | None, out: pathlib.Path, only: list[str], quick: bool):
    """Runs the splits that are missing in `out`/uci.csv, and writes `out`/uci.md and the picture of protein.

    Args:
      data: The folder of the sets; ../shared/data/uci beside the repository if None.
      out: The folder of the results.
      only: The sets to run; all if empty.
      quick: Whether to train hardly at all, on the first split alone.

    Raises:
      ValueError: If a set is unknown, or its files are not there.
      typer.BadParameter: If the CSV file has results with other settings.
    """
    for name in only:
        if name not in SETS:
            raise ValueError(f"--only {name!r} is unknown; wanted one of {', '.join(SETS)}.")
    try:
        tables, learners = {name: Table(data or UCI, name) for name in SETS if name in only or not only}, {}
    except MissingData as error:
        raise ValueError(str(error)) from None

    def write():
        files.write(out / "uci.md", report(finished.table, finished.machines, quick))

    finished = Finished(out / "uci.csv", COLUMNS, uci_models.SETTINGS | {"seed": SEED, "quick": quick})
    for number in range(1 if quick else max(SPLITS.values())):
        for name, table in tables.items():
            if number >= SPLITS[name] or finished.has(set=name, split=number):
                continue
            started = time.perf_counter()
            if name not in learners:
                size = uci_models.size_for(len(table), quick)
                learners[name] = uci_models.Learner(table.columns, HEADS.get(name, uci_models.mixture), size, SEED)
            log_prob = _log_prob(learners[name], name, table.split(number, None, SEED), SEED + number)
            seconds = round(time.perf_counter() - started, 1)
            found = (name, number, -log_prob.mean(), len(log_prob), seconds)
            finished.add(pd.DataFrame([found], columns=COLUMNS))
            write()
            CONSOLE.print(f"split {number}, {name}: NLL {found[2]:.3f}; {seconds:.0f} s", highlight=False)
        if number == 0 and uci_pictures.SET in tables:
            uci_pictures.draw(tables[uci_pictures.SET], out, SEED, quick)
    write()


def _log_prob(learner, name, split, seed):
    """log p(y|x) of the test rows, of y in its own unit; or log P(score)."""
    if name != SCORES:
        return learner.log_prob(split.train, split.test, seed) - np.log(split.unit)
    train, test = ((x, np.rint(y * split.unit + split.mean).astype(int) - LOWEST) for x, y in (split.train, split.test))
    return learner.log_prob(train, test, seed)


def report(table: pd.DataFrame, machines: str, quick: bool = False) -> str:
    """Returns the report in Markdown.

    Args:
      table: The finished splits: set, split, nll, test_rows and seconds.
      machines: Where they were measured.
      quick: Whether they are of a trial run.
    """
    trial = " (a trial run, without significance)" if quick else ""
    columns = ["set", "splits", "NLL", *(f"{one}, published" for one in published.UCI)]
    rows = [_row(name, of_set["nll"]) for name, of_set in table.groupby("set", sort=False)]
    order = {name: number for number, name in enumerate(SETS)}
    rows.sort(key=lambda cells: order[cells[0]])
    lines = [
        f"# NLL on nine sets of UCI{trial}",
        "",
        ABOUT.format(source=published.UCI_SOURCE),
        "",
        f"`python -m paper uci`, seed {SEED}, {machines}; the splits took {table['seconds'].sum() / 60:.0f} minutes, "
        "with other work beside them.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
        *("| " + " | ".join(cells) + " |" for cells in rows),
        "",
        f"Beside the published figures, without {SCORES}:",
        "",
        *(_comparison(name, table.groupby("set")["nll"]) for name in published.UCI),
        "",
        "## The recipe",
        "",
        uci_models.RECIPE,
    ]
    return "\n".join(lines)


def _row(name, nll):
    quoted = [f"*{found[name]:.2f}*" if name in found else "-" for found in published.UCI.values()]
    measured = f"{nll.mean():.3f} ± {_error(nll):.3f}" if len(nll) > 1 else f"{nll.mean():.3f}"
    return [name, f"{len(nll)} of {SPLITS[name]}", measured, *quoted]


def _comparison(name, nlls):
    """In how many sets the NLL is below a published one, and in which it is above by more than a standard error."""
    found = {one: nll for one, nll in published.UCI[name].items() if one in nlls.groups and one != SCORES}
    means = nlls.mean()
    below = [one for one, nll in found.items() if means[one] < nll]
    above = [one for one, nll in found.items() if means[one] > nll + _error(nlls.get_group(one))]
    listed = f" ({', '.join(above)})" if above else ""
    return (
        f"* {name}: below on {len(below)} of {len(found)}; above by more than a standard error on {len(above)}{listed}."
    )


def _error(values):
    return values.std() / math.sqrt(len(values)) if len(values) > 1 else 0.0
