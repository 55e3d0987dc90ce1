"""Active learning: how many labels a hybrid model needs, by each query.

Labels become known as they are asked for, a batch at a time. A model goes on training after each batch of labels, with
small random changes of the images, and then its head gets a posterior. Logistic regression on the standardized pixels
is scikit-learn's, by the same protocol.

Digits: the pool is the 1,000 training rows, ten are asked for at a time, and the error is that on the 447 test rows.
lambda was chosen by the error on the 350 validation rows after 200 random labels (the error of three such models on the
test rows was seen, too).

MNIST: the pool is 10,000 of the 55,000 images of training, drawn by the seed, twenty are asked for at a time, and the
error is that on the 10,000 test images. The images are made smaller to 14 x 14 by means of four pixels. The options are
those of the bandit of MNIST, which a look at the errors on validation images did not change.

Finished seeds are kept in the CSV file, so that an interrupted run resumes.
"""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tfp_hybrid as hy
from benchmarks.finished import Finished
from benchmarks.run import CONSOLE
from tfp_hybrid import active, bayes, datasets, files, networks
from tfp_hybrid.recipes.augmentation import RandomAffine
from tfp_hybrid.uncertainty import pictures

QUERIES = (active.Random(), active.Margin(), active.BALD())
COLUMNS = ["problem", "query", "seed", "labels", "error", "seconds"]
BATCH, REGRESSION = 32, "logistic regression"


def half_size(images: np.ndarray) -> np.ndarray:
    """Returns images `(n, 28, 28, 1)` as `(n, 14, 14, 1)`, by the means of four pixels."""
    return (images.astype(int).reshape(-1, 14, 2, 14, 2, 1).sum((2, 4)) // 4).astype("uint8")


def _digits(seed):
    digits = datasets.load("digits")
    return digits.train, digits.test


def _mnist(seed):
    mnist = datasets.load("mnist")
    pool = np.random.default_rng([seed, 10_000]).permutation(len(mnist.train[1]))[:10_000]
    return tuple((half_size(x), y) for x, y in ((mnist.train[0][pool], mnist.train[1][pool]), mnist.test))


@dataclasses.dataclass(frozen=True)
class Problem:
    """Images to learn, and how.

    Attributes:
      rows: The pool and the test rows of a seed.
      size: The height and width of an image.
      levels: The number of values of a pixel.
      units: The channels of the hidden layers.
      augmentation: Arguments of `RandomAffine`.
      steps: The training steps after each batch of labels.
      start: How many labels are known at the start.
      batch: How many are asked for at a time.
      labels: How many are known at the end.
      counts: The numbers of labels of the report.
    """

    rows: Callable
    size: int
    levels: int
    units: int
    augmentation: dict
    steps: int
    start: int
    batch: int
    labels: int
    counts: tuple[int, ...]

    @property
    def settings(self) -> tuple:
        """All of it but the rows."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "rows")

    def quick(self) -> "Problem":
        """The same, trained hardly at all, with two batches of labels."""
        labels = self.start + 2 * self.batch
        return dataclasses.replace(self, steps=2, labels=labels, counts=(labels,))


PROBLEMS = {
    "digits": Problem(_digits, 8, 17, 48, {}, 80, 10, 10, 200, (50, 100, 150, 200)),
    "mnist": Problem(_mnist, 14, 256, 32, {"fraction": 0.5, "shift": 1.0}, 200, 20, 20, 300, (60, 100, 200, 300)),
}


def run_active(out: pathlib.Path, only: list[str], seeds: int, quick: bool):
    """Runs what is missing in `out`/active.csv, and writes the table and the pictures."""
    problems = {name: problem.quick() if quick else problem for name, problem in PROBLEMS.items()}
    finished = Finished(out / "active.csv", COLUMNS, {name: problem.settings for name, problem in problems.items()})
    for name in only:
        problem = problems[name]
        runs = {type(query).__name__: functools.partial(_hybrid, query) for query in QUERIES}
        runs |= {f"{REGRESSION}, {of}": functools.partial(_regression, of == "Margin") for of in ("Random", "Margin")}
        for seed in range(seeds):
            for query, run in runs.items():
                if finished.has(problem=name, query=query, seed=seed, labels=problem.labels):
                    continue
                CONSOLE.print(f"{name}, seed {seed}: {query}")
                started = time.perf_counter()
                found = run(problem, seed).assign(problem=name, query=query, seed=seed)
                finished.add(found.assign(seconds=round(time.perf_counter() - started, 1)))
    table = finished.table
    files.write(out / "active.md", _report(table, problems, finished.machines))
    for name, rows in table.groupby("problem"):
        figure = pictures.query_curves(rows.drop(columns="problem"), f"error on the test images of {name}")
        pictures.save(figure, out / f"active_{name}.png")


def _hybrid(query, problem, seed):
    pool, test = problem.rows(seed)
    learner = _Learner(problem)
    return active.simulate(
        learner, pool, test, [query], problem.start, problem.batch, problem.labels, [seed], verbose=0
    )


class _Learner:
    """Trains one model on and on, as labels come in; a call with the first labels begins anew."""

    def __init__(self, problem):
        self.problem = problem
        self.model = None

    def __call__(self, x, y):
        if len(y) == self.problem.start:
            self.model = _model(self.problem)
        self.model.head.posterior = None
        self.model.fit(self._augmented(x, y), steps_per_epoch=self.problem.steps, epochs=1, verbose=0)
        bayes.fit(self.model, x, y)
        return self.model

    def _augmented(self, x, y):
        change = RandomAffine(levels=self.problem.levels, **self.problem.augmentation)
        rows = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(y)).repeat().batch(BATCH)
        return rows.map(lambda images, labels: (change(images), labels)).prefetch(2)


def _model(problem):
    shape = (problem.size, problem.size, 1)
    conditioner = functools.partial(networks.ConvNet, hidden_units=problem.units, dropout=0.1)
    flow = hy.bijectors.Glow(shape, levels=1, steps=6, conditioner=conditioner, quantization_levels=problem.levels)
    of_density = 0.1 / problem.size**2
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(10), generative_weight=of_density)
    model.compile(keras.optimizers.Adam(2e-3), steps_per_execution=8)
    return model


def _regression(margin, problem, seed):
    (x, y), (x_test, y_test) = ((images.reshape(len(images), -1), labels) for images, labels in problem.rows(seed))
    known = np.random.default_rng(seed).permutation(len(y))[: problem.start]
    chance, found = np.random.default_rng(seed + 1), []
    while True:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(x[known], y[known])
        found.append((len(known), np.mean(model.predict(x_test) != y_test)))
        if len(known) >= problem.labels:
            return pd.DataFrame(found, columns=["labels", "error"])
        rest = np.setdiff1d(np.arange(len(y)), known)
        highest = np.sort(model.predict_proba(x[rest]), axis=1)
        order = np.argsort(highest[:, -1] - highest[:, -2]) if margin else chance.permutation(len(rest))
        known = np.append(known, rest[order[: problem.batch]])


def _report(table, problems, machines):
    of_all, *of_problems = __doc__.strip().split("\n\n")[1:-1]
    lines = ["# Active learning", "", *of_all.split("\n"), "", f"`python -m benchmarks active`, {machines}."]
    for (name, problem), text in zip(problems.items(), of_problems, strict=True):
        of_problem = table[table["problem"] == name]
        if not len(of_problem):
            continue
        lines += ["", *text.split("\n"), ""]
        errors = " | ".join(f"error at {count} labels" for count in problem.counts)
        lines += [f"| query | {errors} | seeds | seconds |", "|---" * (len(problem.counts) + 3) + "|"]
        for query, rows in of_problem.groupby("query", sort=False):
            of_counts = [100 * rows.loc[rows["labels"] == count, "error"] for count in problem.counts]
            cells = [f"{found.mean():.1f} % ({found.min():.1f} - {found.max():.1f})" for found in of_counts]
            seconds = rows.groupby("seed")["seconds"].first()
            cells += [str(len(seconds)), f"{seconds.min():.0f} - {seconds.max():.0f}"]
            lines.append(f"| {query} | " + " | ".join(cells) + " |")
        lines += ["", f"The mean of the seeds, and their range.\n\n![Learning curves of {name}](active_{name}.png)"]
    return "\n".join([*lines, ""])
