"""Few labels: how far rows without a label help.

Labels are drawn at random, equally many of each class; the seed of a run is that of its draw, of the weights and of the
batches. "Labels alone" is the same model, trained for as many steps on the labelled rows. Label spreading is
scikit-learn's; its kernel, neighbours and alpha have the lowest error on the held-out rows, in the mean of all draws.

Digits: 1,000 training rows, 350 held-out ones, and 447 test rows of other writers. The model and its settings are those
of `tfp-hybrid train digits --labels N`, chosen on the held-out rows with draws of seeds from 100 on.

Moons: 1,000 rows of two moons with noise of standard deviation 0.1, 500 held-out ones, and 5,000 test rows, drawn with
the seed, from 10 on. The model is a RealNVP with a class mixture as its latent; its settings were chosen with other
seeds.
"""

import dataclasses
import pathlib
import time
from collections.abc import Callable

import keras
import numpy as np
import pandas as pd
import rich
import sklearn.datasets
import tensorflow as tf
from rich.markdown import Markdown
from sklearn.semi_supervised import LabelSpreading

import tfp_hybrid as hy
from benchmarks.finished import Finished
from benchmarks.run import CONSOLE
from tfp_hybrid import datasets, files, recipes
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.models import HybridModel

COLUMNS = ["problem", "labels", "method", "seed", "error", "held_out_error", "bits_per_dim", "seconds"]
HYBRID, ALONE, SPREADING = "hybrid model", "labels alone", "label spreading"
_KERNELS = [{"kernel": "knn", "n_neighbors": count} for count in (3, 5, 7, 10, 15)]
_KERNELS += [{"kernel": "rbf", "gamma": gamma} for gamma in (0.5, 1.0, 2.0, 4.0, 8.0)]
_SPREADINGS = [kernel | {"alpha": alpha} for kernel in _KERNELS for alpha in (0.05, 0.2, 0.5)]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Rows of which few have a label, and a model of them.

    Attributes:
      counts: How many labels there are.
      first_seed: The first seed.
      scale: What inputs are divided by for label spreading.
      load: A function of the seed that returns the `Dataset`.
      new: A function of a `Dataset` with few labels, and of how many epochs there are, that returns a compiled model.
      batch_size: Batch size.
      labelled: The number of labelled rows of a batch.
      epochs: Number of epochs.
    """

    counts: tuple[int, ...]
    first_seed: int
    scale: float
    load: Callable[[int], Dataset]
    new: Callable[[Dataset, int], HybridModel]
    batch_size: int
    labelled: int
    epochs: int

    def steps(self, dataset: Dataset) -> int:
        """The steps of an epoch, which goes once through the rows without a label."""
        return -(-int((dataset.train[1] < 0).sum()) // (self.batch_size - self.labelled))


_RECIPE = recipes.few_labels(recipes.digits.RECIPE)


def _digits_model(dataset, epochs):
    model = _RECIPE.model(dataset, _RECIPE.generative_weight)
    steps = epochs * PROBLEMS["digits"].steps(dataset)
    model.compile(recipes.optimizer_for(_RECIPE.learning_rate, steps, _RECIPE.clipnorm))
    return model


def _moons(seed):
    def draw(count, part):
        x, y = sklearn.datasets.make_moons(count, noise=0.1, random_state=3 * seed + part)
        return x.astype("float32"), y.astype("int32")

    return Dataset("moons", "classification", draw(1000, 0), draw(500, 1), draw(5000, 2), num_classes=2)


@keras.saving.register_keras_serializable(package="benchmarks")
def _unchanged(x, seed):
    return x


def _moons_model(dataset, epochs):
    flow = hy.bijectors.RealNVP((2,), couplings=8, hidden_units=(64, 64))
    latent = hy.latents.ClassMixture(2, flow.latent_shape, separation=2.0)
    latent.class_logits.trainable = False
    steps = epochs * PROBLEMS["moons"].steps(dataset)
    model = hy.HybridModel(
        hy.flow_distribution(flow, latent),
        hy.heads.ClassPosterior(latent),
        keras.optimizers.schedules.PolynomialDecay(1e-3, steps, 1.0),
        missing_label=-1,
        penalties=[hy.penalties.Consistency(_unchanged, keras.layers.GaussianNoise(0.2), weight=2.0)],
    )
    model.compile(keras.optimizers.Adam(2e-3))
    return model


PROBLEMS = {
    "digits": Problem(
        counts=(100, 50),
        first_seed=0,
        scale=16.0,
        load=lambda seed: datasets.load("digits"),
        new=_digits_model,
        batch_size=_RECIPE.batch_size,
        labelled=_RECIPE.batch_size // 2,
        epochs=_RECIPE.epochs,
    ),
    "moons": Problem(
        counts=(10,), first_seed=10, scale=1.0, load=_moons, new=_moons_model, batch_size=110, labelled=20, epochs=100
    ),
}


def run_few_labels(out: pathlib.Path, names: list[str], seeds: int, quick: bool = False):
    """Measures all methods; prints a table, and writes it with the runs.

    Args:
      out: Folder for few_labels.csv and few_labels.md.
      names: Names of `PROBLEMS`.
      seeds: The number of draws of labels.
      quick: Whether to train for one epoch, to try this out.
    """
    out.mkdir(parents=True, exist_ok=True)
    finished = Finished(out / "few_labels.csv", COLUMNS, {"quick": quick})
    for name, count in ((one, count) for one in names for count in PROBLEMS[one].counts):
        problem = PROBLEMS[name]
        draws = range(problem.first_seed, problem.first_seed + seeds)
        if not finished.has(problem=name, labels=count, method=SPREADING, seed=draws[-1]):
            finished.add(_rows(_spread(problem, count, draws), name, count, SPREADING))
        for seed, method in ((seed, method) for seed in draws for method in (HYBRID, ALONE)):
            if finished.has(problem=name, labels=count, method=method, seed=seed):
                continue
            with CONSOLE.status(f"{name}, {count} labels, {method}, seed {seed}"):
                row = _train(problem, count, seed, method == ALONE, 1 if quick else problem.epochs)
            finished.add(_rows([row], name, count, method))
    report = _report(finished.table, finished.machines)
    files.write(out / "few_labels.md", report)
    rich.print(Markdown(report))


def _rows(found, name, count, method):
    return pd.DataFrame(found).assign(problem=name, labels=count, method=method)


def _train(problem, count, seed, alone, epochs):
    """The figures of one model."""
    started = time.perf_counter()
    dataset = datasets.hide_labels(problem.load(seed), count, seed)
    keras.utils.set_random_seed(seed)
    model = problem.new(dataset, epochs)
    x, y = dataset.train
    if alone:
        known, steps = y >= 0, problem.steps(dataset)
        rows = tf.data.Dataset.from_tensor_slices((x[known], y[known])).shuffle(count).repeat().batch(problem.labelled)
        model.adapt(x[known])
        model.fit(rows, epochs=epochs, steps_per_epoch=steps, verbose=0)
    else:
        model.fit(x, y, problem.batch_size, epochs, labelled_per_batch=problem.labelled, verbose=0)
    return _measured(model, dataset) | {"seed": seed, "seconds": time.perf_counter() - started}


def _measured(model: HybridModel, dataset: Dataset) -> dict:
    found = model.evaluate(*dataset.test, verbose=0, return_dict=True)
    held_out = model.evaluate(*dataset.validation, verbose=0, return_dict=True)
    return {
        "error": 1 - found["accuracy"],
        "held_out_error": 1 - held_out["accuracy"],
        "bits_per_dim": found.get("bits_per_dim", np.nan),
    }


def _spread(problem, count, seeds):
    """The errors of label spreading, with the settings that are best on the held-out rows."""
    found = []
    for seed in seeds:
        dataset = datasets.hide_labels(problem.load(seed), count, seed)
        (x, y), *others = ((x.reshape(len(x), -1) / problem.scale, y) for x, y in _parts(dataset))
        for number, settings in enumerate(_SPREADINGS):
            started = time.perf_counter()
            with np.errstate(invalid="ignore"):  # of rows that no label reaches
                model = LabelSpreading(max_iter=1000, **settings).fit(x, y)
                wrong = [np.mean(model.predict(x) != y) for x, y in others]
            found.append((number, seed, *wrong, time.perf_counter() - started))
    table = pd.DataFrame(found, columns=["settings", "seed", "held_out_error", "error", "seconds"])
    best = table.groupby("settings")["held_out_error"].mean().idxmin()
    rows = table[table["settings"] == best].drop(columns="settings")
    return rows.assign(bits_per_dim=np.nan).to_dict("records")


def _parts(dataset):
    return dataset.train, dataset.validation, dataset.test


def _report(table, machines):
    of_all, *of_problems = __doc__.strip().split("\n\n")[1:]
    lines = ["# Few labels", "", *of_all.split("\n"), "", f"`python -m benchmarks few-labels`, {machines}."]
    for problem, text in zip(PROBLEMS, of_problems, strict=True):
        if problem not in set(table["problem"]):
            continue
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
