"""Regression on nine sets of UCI: a hybrid model with a posterior of its head, with a point head, and BayesianRidge.

x and y are standardized by the training rows; log-likelihoods are in nats, of y in its own unit, as are the RMSEs.
"All rows" are the training rows of the standard splits, "100 rows" the first of a random permutation of them; the test
rows are the same for both.

Finished fits are kept in the CSV file, so that an interrupted run resumes. The work is done split by split over all
sets, so that an interrupted run has about as many splits of each.
"""

import math
import pathlib
import time

import numpy as np
import pandas as pd

from benchmarks import uci_models
from benchmarks.finished import Finished
from benchmarks.run import CONSOLE
from benchmarks.uci_data import PUBLISHED, SPLITS, Table
from tfp_hybrid import files

FEW = 100
ROWS = ("all", str(FEW))
MODELS = (uci_models.POSTERIOR, uci_models.POINT, uci_models.RIDGE)
NOTES = """\
Means over the splits, and their standard errors. "Splits above" counts the splits in which the posterior is above the
point head: a few rows far out, where the point head is sure and wrong, may decide its mean. The mode of the posterior
is the exact fit of the head to the latents, and is found with the rows by which the training stopped, too, so the gain
is not that of integration alone. MC dropout's figures are published ones: Gal and Ghahramani 2016, as re-run in
DropoutUncertaintyExps."""
COLUMNS = ["seed", "set", "split", "rows", "model", "log_likelihood", "rmse", "seconds"]


def uci(data: pathlib.Path, out: pathlib.Path, splits: int, seed: int, quick: bool):
    """Runs what is missing in `out`/uci.csv, and writes the report.

    Args:
      data: The folder of the sets.
      out: The folder of the results.
      splits: How many of the splits to run.
      seed: The seed of the choice of 100 rows, of the initial weights and of the batches.
      quick: Whether to train hardly at all.
    """
    tables, learners = {name: Table(data, name) for name in PUBLISHED}, {}
    finished = Finished(out / "uci.csv", COLUMNS, uci_models.SETTINGS | {"quick": quick})
    for number in range(splits):
        for name, table in tables.items():
            for rows in ROWS:
                if number >= SPLITS[name] or finished.has(seed=seed, set=name, split=number, rows=rows):
                    continue
                started = time.perf_counter()
                split = table.split(number, None if rows == "all" else FEW, seed)
                if name not in learners:
                    learners[name] = uci_models.Learner(split.train[0].shape[1], table.batch, seed, quick)
                scores = learners[name].scores(split, seed + number) | {uci_models.RIDGE: uci_models.ridge(split)}
                seconds = round(time.perf_counter() - started, 1)
                found = [(seed, name, number, rows, model, *scores[model], seconds) for model in MODELS]
                finished.add(pd.DataFrame(found, columns=COLUMNS))
                lines = ", ".join(f"{model} {scores[model][0]:.3f}" for model in MODELS)
                CONSOLE.print(f"split {number}, {name}, {rows} rows: {lines}; {seconds:.0f} s")
    files.write(out / "uci.md", report(finished.table, seed, finished.machines))


def report(table: pd.DataFrame, seed: int, machines: str) -> str:
    """Returns the report of the fits with a seed, in Markdown: a table for each number of rows, and what holds."""
    table = table[table["seed"] == seed]
    seconds = table.drop_duplicates(["set", "split", "rows"])["seconds"].sum()
    lines = [
        "# Regression on nine sets of UCI",
        "",
        *__doc__.split("\n\n")[1].split("\n"),
        "",
        f"`python -m benchmarks uci --splits {table['split'].max() + 1} --seed {seed}`, {machines}; the fits took "
        f"{seconds / 60:.0f} minutes.",
        "",
        uci_models.RECIPE,
        *NOTES.split("\n"),
    ]
    for rows in ROWS:
        lines += ["", f"## {rows.capitalize()} training rows", "", *_table(table[table["rows"] == rows], rows)]
    return "\n".join([*lines, "", *_what_holds(table), ""])


def _table(table, rows):
    published = ["MC dropout, published"] if rows == "all" else []
    gains = ["posterior - point head", "splits above"]
    columns = ["set", "splits", *MODELS, *published, *gains, *(f"RMSE, {model}" for model in MODELS)]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for name, of_set in table.groupby("set", sort=False):
        log_likelihood, rmse = _pivoted(of_set), _pivoted(of_set, "rmse")
        cells = [name, str(len(log_likelihood)), *(_mean(log_likelihood[model]) for model in MODELS)]
        cells += [f"{PUBLISHED[name]:.2f}"] if published else []
        gain = _gain(log_likelihood)
        cells += [_mean(gain, "+"), f"{(gain > 0).sum()} of {len(gain)}"]
        cells += [f"{rmse[model].mean():.4g}" for model in MODELS]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _what_holds(table):
    of_rows = {rows: table[table["rows"] == rows].groupby("set", sort=False) for rows in ROWS}
    of_all, of_few = ({name: _pivoted(part) for name, part in of_rows[rows]} for rows in ROWS)
    above = [name for name, found in of_all.items() if found[uci_models.POSTERIOR].mean() > PUBLISHED[name]]
    gains = {name: _gain(found) for name, found in of_few.items()}
    gained = [name for name, gain in gains.items() if gain.mean() >= 0.05]
    lost = [name for name, gain in gains.items() if gain.mean() < -_error(gain)]
    return [
        "## What holds",
        "",
        f"* All rows: the posterior is above the published MC dropout on {_listed(above, of_all)}; wanted 6 of 9.",
        f"* {FEW} rows: the posterior is 0.05 nats or more above the point head on {_listed(gained, gains)}; wanted 5 "
        "of 9.",
        f"* {FEW} rows: the posterior is below the point head by more than a standard error on {_listed(lost, gains)}; "
        "wanted none.",
        f"* {uci_models.RIDGE} is above the posterior on {_listed(_below_ridge(of_all), of_all)} with all rows, and on "
        f"{_listed(_below_ridge(of_few), of_few)} with {FEW}.",
    ]


def _pivoted(of_set, values="log_likelihood"):
    return of_set.pivot(index="split", columns="model", values=values)


def _listed(names, of):
    return f"{len(names)} of {len(of)}" + (f" ({', '.join(names)})" if names else "")


def _below_ridge(of_sets):
    means = {name: found.mean() for name, found in of_sets.items()}
    return [name for name, mean in means.items() if mean[uci_models.RIDGE] > mean[uci_models.POSTERIOR]]


def _gain(log_likelihood):
    return log_likelihood[uci_models.POSTERIOR] - log_likelihood[uci_models.POINT]


def _error(values):
    return values.std() / math.sqrt(len(values)) if len(values) > 1 else np.nan


def _mean(values, sign=""):
    return f"{values.mean():{sign}.3f} ± {_error(values):.3f}"
