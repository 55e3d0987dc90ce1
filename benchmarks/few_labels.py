"""Few labels: how far rows without a label help.

Labels are drawn at random, equally many of each class; the seed of a run is that of its draw, of the weights and of the
batches. "Labels alone" is the same model, trained for as many steps on the labelled rows. Label spreading is
scikit-learn's; its kernel, neighbours and alpha have the lowest error on the held-out rows, in the mean of all draws.

Digits: 1,000 training rows, 350 held-out ones, and 447 test rows of other writers. The model and its settings are those
of `tfp-hybrid train digits --labels N`, chosen on the held-out rows with draws of seeds from 100 on.
"""

import pathlib
import time

import keras
import numpy as np
import pandas as pd
import rich
import tensorflow as tf
from rich.markdown import Markdown
from sklearn.semi_supervised import LabelSpreading

from benchmarks.finished import Finished
from benchmarks.run import CONSOLE
from tfp_hybrid import datasets, files, recipes
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.models import HybridModel

COLUMNS = ["problem", "labels", "method", "seed", "error", "held_out_error", "bits_per_dim", "seconds"]
HYBRID, ALONE, SPREADING = "hybrid model", "labels alone", "label spreading"
COUNTS = {"digits": (100, 50)}
_KERNELS = [{"kernel": "knn", "n_neighbors": count} for count in (3, 5, 7, 10, 15)]
_KERNELS += [{"kernel": "rbf", "gamma": gamma} for gamma in (0.5, 1.0, 2.0, 4.0, 8.0)]
SPREADINGS = [kernel | {"alpha": alpha} for kernel in _KERNELS for alpha in (0.05, 0.2, 0.5)]


def run_few_labels(out: pathlib.Path, problems: list[str], seeds: list[int], quick: bool = False):
    """Measures all methods; prints a table, and writes it with the runs.

    Args:
      out: Folder for few_labels.csv and few_labels.md.
      problems: Names in `COUNTS`.
      seeds: The seeds.
      quick: Whether to train for one epoch, to try this out.
    """
    out.mkdir(parents=True, exist_ok=True)
    finished = Finished(out / "few_labels.csv", COLUMNS, {"quick": quick})
    for problem in problems:
        for count in COUNTS[problem]:
            if not finished.has(problem=problem, labels=count, method=SPREADING, seed=seeds[-1]):
                finished.add(_rows(_spread(problem, count, seeds), problem, count, SPREADING))
            for seed in seeds:
                for method in (HYBRID, ALONE):
                    if finished.has(problem=problem, labels=count, method=method, seed=seed):
                        continue
                    with CONSOLE.status(f"{problem}, {count} labels, {method}, seed {seed}"):
                        row = _train(problem, count, seed, method == ALONE, quick)
                    finished.add(_rows([row], problem, count, method))
    report = _report(finished.table, finished.machines)
    files.write(out / "few_labels.md", report)
    rich.print(Markdown(report))


def _rows(found, problem, count, method):
    return pd.DataFrame(found).assign(problem=problem, labels=count, method=method)


def _train(problem, count, seed, alone, quick):
    """The figures of one model."""
    started = time.perf_counter()
    dataset = datasets.hide_labels(datasets.load(problem), count, seed)
    recipe = recipes.few_labels(recipes.recipe_for(dataset))
    epochs, half = 1 if quick else recipe.epochs, recipe.batch_size // 2
    steps = -(-(len(dataset.train[1]) - count) // half)
    keras.utils.set_random_seed(seed)
    model = recipe.model(dataset, recipe.generative_weight)
    model.compile(recipes.optimizer_for(recipe.learning_rate, epochs * steps, recipe.clipnorm))
    x, y = dataset.train
    if alone:
        known = y >= 0
        rows = tf.data.Dataset.from_tensor_slices((x[known], y[known])).shuffle(count).repeat().batch(half)
        model.adapt(x[known])
        model.fit(rows, epochs=epochs, steps_per_epoch=steps, verbose=0)
    else:
        model.fit(x, y, batch_size=2 * half, labelled_per_batch=half, epochs=epochs, verbose=0)
    figures = _measured(model, dataset)
    return figures | {"seed": seed, "seconds": time.perf_counter() - started}


def _measured(model: HybridModel, dataset: Dataset) -> dict:
    found = model.evaluate(*dataset.test, verbose=0, return_dict=True)
    held_out = model.evaluate(*dataset.validation, verbose=0, return_dict=True)
    return {
        "error": 1 - found["accuracy"],
        "held_out_error": 1 - held_out["accuracy"],
        "bits_per_dim": found["bits_per_dim"],
    }


def _spread(problem, count, seeds):
    """The errors of label spreading, with the settings that are best on the held-out rows."""
    dataset = datasets.load(problem)
    parts = [part[0].reshape(len(part[0]), -1) / 16 for part in (dataset.train, dataset.validation, dataset.test)]
    found = []
    for number, settings in enumerate(SPREADINGS):
        for seed in seeds:
            started = time.perf_counter()
            y = datasets.hide_labels(dataset, count, seed).train[1]
            model = LabelSpreading(max_iter=1000, **settings).fit(parts[0], y)
            wrong = [
                np.mean(model.predict(x) != labels)
                for x, (_, labels) in zip(parts[1:], (dataset.validation, dataset.test), strict=True)
            ]
            seconds = time.perf_counter() - started
            found.append((number, seed, *wrong, seconds))
    table = pd.DataFrame(found, columns=["settings", "seed", "held_out_error", "error", "seconds"])
    best = table.groupby("settings")["held_out_error"].mean().idxmin()
    rows = table[table["settings"] == best].drop(columns="settings")
    return rows.assign(bits_per_dim=np.nan).to_dict("records")


def _report(table, machines):
    of_all, *of_problems = __doc__.strip().split("\n\n")[1:]
    lines = ["# Few labels", "", *of_all.split("\n"), "", f"`python -m benchmarks few-labels`, {machines}."]
    for problem, text in zip(COUNTS, of_problems, strict=True):
        lines += ["", *text.split("\n"), ""]
        lines += ["| labels | method | test error | bits/dim | seeds | seconds |", "|---" * 6 + "|"]
        for (count, method), rows in table[table["problem"] == problem].groupby(["labels", "method"], sort=False):
            error, bits, seconds = 100 * rows["error"], rows["bits_per_dim"], rows["seconds"]
            cells = [f"{error.mean():.2f} % ± {error.std(ddof=1):.2f} ({error.min():.2f} - {error.max():.2f})"]
            cells += ["" if bits.isna().all() else f"{bits.mean():.3f}", str(len(rows))]
            lines.append(
                f"| {count} | {method} | " + " | ".join(cells) + f" | {seconds.min():.0f} - {seconds.max():.0f} |"
            )
        lines += ["", "The mean of the seeds, their standard deviation, and their range."]
    return "\n".join([*lines, ""])
