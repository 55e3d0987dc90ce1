"""Active learning on the digits: how many labels a hybrid model needs, by each query.

The pool is the 1,000 training rows, whose labels become known as they are asked for, ten at a time; the error is that
on the 447 test rows. A model goes on training after each batch of labels, with small random changes of the images, and
then its head gets a posterior. lambda was chosen by the error on the 350 validation rows after 200 random labels (the
error of three such models on the test rows was seen, too). Logistic regression on the standardized pixels is
scikit-learn's, by the same protocol.

Finished seeds are kept in the CSV file, so that an interrupted run resumes.
"""

import functools
import pathlib
import time

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tfp_hybrid as hy
from benchmarks.machine import machine, versions
from benchmarks.run import CONSOLE
from tfp_hybrid import active, bayes, datasets, files, networks
from tfp_hybrid.recipes.augmentation import random_affine
from tfp_hybrid.uncertainty import pictures

LEVELS, STEPS, BATCH = 17, 80, 32
QUERIES = (active.Random(), active.Margin(), active.BALD())
START, LABELS = 10, 200


def active_digits(out: pathlib.Path, seeds: int, quick: bool):
    """Runs what is missing in `out`/active.csv, and writes the table and the picture."""
    digits, table = datasets.load("digits"), _kept(out / "active.csv")
    labels = 30 if quick else LABELS
    for seed in range(seeds):
        for query in QUERIES:
            if _has(table, type(query).__name__, seed, labels):
                continue
            CONSOLE.print(f"seed {seed}: {type(query).__name__}")
            started = time.perf_counter()
            found = active.simulate(
                _Learner(quick), digits.train, digits.test, [query], START, 10, labels, [seed], verbose=0
            )
            found["seconds"] = round(time.perf_counter() - started, 1)
            table = _with(table, found)
            _write(out / "active.csv", table)
        for margin in (False, True):
            name = f"logistic regression, {'Margin' if margin else 'Random'}"
            if not _has(table, name, seed, labels):
                table = _with(table, _logistic_regression(name, margin, digits, seed, labels))
                _write(out / "active.csv", table)
    with files.replacing(out / "active.md") as beside:
        beside.write_text(_report(table, labels), encoding="utf-8")
    pictures.save(pictures.query_curves(table, "error on 447 test digits"), out / "active.png")


class _Learner:
    """Trains one model on and on, as labels come in; a call with the first labels begins anew."""

    def __init__(self, quick):
        self.steps = 2 if quick else STEPS
        self.model = None

    def __call__(self, x, y):
        if len(y) == START:
            self.model = _model()
        self.model.head.posterior = None
        self.model.fit(_augmented(x, y), steps_per_epoch=self.steps, epochs=1, verbose=0)
        bayes.fit(self.model, x, y)
        return self.model


def _model():
    conditioner = functools.partial(networks.ConvNet, hidden_units=48, dropout=0.1)
    flow = hy.bijectors.Glow((8, 8, 1), levels=1, steps=6, conditioner=conditioner, quantization_levels=LEVELS)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(10), generative_weight=0.1 / 64)
    model.compile(keras.optimizers.Adam(2e-3), steps_per_execution=8)
    return model


def _augmented(x, y):
    rows = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(y)).repeat().batch(BATCH)
    return rows.map(lambda images, labels: (random_affine(images, levels=LEVELS), labels)).prefetch(2)


def _logistic_regression(name, margin, digits, seed, labels):
    x, y = digits.train[0].reshape(len(digits.train[0]), -1), digits.train[1]
    known = np.random.default_rng(seed).permutation(len(y))[:START]
    chance, found = np.random.default_rng(seed + 1), []
    while True:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[known], y[known])
        error = np.mean(model.predict(digits.test[0].reshape(len(digits.test[0]), -1)) != digits.test[1])
        found.append((name, seed, len(known), error, 0.0))
        if len(known) >= labels:
            return pd.DataFrame(found, columns=["query", "seed", "labels", "error", "seconds"])
        rest = np.setdiff1d(np.arange(len(y)), known)
        highest = np.sort(model.predict_proba(x[rest]), axis=1)
        order = np.argsort(highest[:, -1] - highest[:, -2]) if margin else chance.permutation(len(rest))
        known = np.append(known, rest[order[:10]])


def _kept(path):
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["query", "seed", "labels", "error", "seconds"])


def _with(table, found):
    return pd.concat([table, found]) if len(table) else found


def _has(table, query, seed, labels):
    return bool(((table["query"] == query) & (table["seed"] == seed) & (table["labels"] == labels)).any())


def _write(path, table):
    with files.replacing(path) as beside:
        table.to_csv(beside, index=False)


def _report(table, labels):
    counts = [count for count in (50, 100, 150, 200) if count <= labels] or [labels]
    about, used = machine(), versions()
    where = f"{about['cores']} cores of {about['cpu']}, " + ", ".join(
        f"{name} {used[name]}" for name in ("python", "tensorflow", "keras", "tfp_hybrid") if name in used
    )
    lines = [
        "# Active learning on the digits",
        "",
        *__doc__.strip().split("\n\n")[1].split("\n"),
        "",
        f"`python -m benchmarks active`, {where}.",
        "",
        "| query | " + " | ".join(f"error at {count} labels" for count in counts) + " | seeds |",
        "|---" * (len(counts) + 2) + "|",
    ]
    for query, rows in table.groupby("query", sort=False):
        of_counts = [rows.loc[rows["labels"] == count, "error"] for count in counts]
        cells = [
            f"{100 * errors.mean():.1f} % ({100 * errors.min():.1f} - {100 * errors.max():.1f})" for errors in of_counts
        ]
        lines.append(f"| {query} | " + " | ".join(cells) + f" | {rows['seed'].nunique()} |")
    return "\n".join([*lines, "", "The mean of the seeds, and their range.", "", "![Learning curves](active.png)", ""])
