"""The cost of checking inputs: its time against that of `predict`."""

import keras
import numpy as np
import rich.table
import tensorflow as tf

import tfp_hybrid as hy
from benchmarks.rounds import interval, once, ratio, take_turns
from benchmarks.run import CONSOLE, Run, progress
from tfp_hybrid.models import checks

BATCH = 256


def checking(run: Run):
    """Measures, prints a table, and writes checking.json."""
    keras.utils.set_random_seed(run.seed)
    rng = np.random.default_rng(run.seed)
    rows, side, images, steps = (256, 8, 64, 2) if run.quick else (100_000, 28, 10_000, 8)
    glow = hy.bijectors.Glow((side, side, 1), levels=2, steps=steps, hidden_units=64)
    cases = {
        "rows of 8 columns": (hy.bijectors.RealNVP((8,)), rng.normal(size=(rows, 8)).astype("float32")),
        "images": (glow, rng.integers(0, 256, (images, side, side, 1)).astype("uint8")),
    }
    results = {}
    with progress(4 * (run.rounds + 1) * len(cases)) as advance:
        for name, (flow, x) in cases.items():
            model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(10))
            model.adapt(x[:64])
            seconds = take_turns(_turns(model, x), run.rounds, run.seconds, advance)
            results[f"{len(x):,} {name}"] = {
                "seconds": seconds,
                "arrays": ratio(seconds["check"], seconds["predict"]),
                "data sets": ratio(seconds["data set"], seconds["data set, unchecked"]),
            }
    run.write(batch=BATCH, results=results)
    table = rich.table.Table("inputs", title=f"batches of {BATCH}")
    table.add_column("arrays: check / predict", justify="right")
    table.add_column("data sets: predict, checked / unchecked", justify="right")
    for name, result in results.items():
        table.add_row(name, interval(result["arrays"], 4), interval(result["data sets"], 3))
    CONSOLE.print(table)


def _turns(model, x):
    data = tf.data.Dataset.from_tensor_slices(x).batch(BATCH)
    works = {
        "predict": lambda: model.predict(x, batch_size=BATCH, verbose=0),
        "check": lambda: checks.inputs(x, model),
        "data set": lambda: model.predict(data, verbose=0),
        "data set, unchecked": lambda: keras.Model.predict(model, data, verbose=0),
    }
    return {name: once(work) for name, work in works.items()}
