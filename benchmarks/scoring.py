"""The cost of the scores: the time of scoring images against that of `predict`."""

import keras
import numpy as np
import rich.table

import tfp_hybrid as hy
from benchmarks.rounds import interval, once, ratio, take_turns
from benchmarks.run import CONSOLE, Run, progress
from tfp_hybrid import uncertainty

BATCH = 256


def scoring(run: Run):
    """Measures, prints a table, and writes scoring.json."""
    keras.utils.set_random_seed(run.seed)
    side, count, steps = (8, 200, 2) if run.quick else (28, 10_000, 8)
    flow = hy.bijectors.Glow((side, side, 1), levels=2, steps=steps, hidden_units=64)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(10))
    x = np.random.default_rng(run.seed).integers(0, 256, (count, side, side, 1)).astype("uint8")
    model.adapt(x[:64])
    scores = uncertainty.all_scores(model, x[:200])
    rejector = uncertainty.Rejector(model).fit_threshold(x[:200], quantile=0.9)
    works = {"predict": lambda: model.predict(x, batch_size=BATCH, verbose=0)}
    works |= {score.title: lambda score=score: score.score(model, x, BATCH) for score in scores}
    works["all of them, one pass"] = lambda: uncertainty.score_table(model, x, scores, BATCH)
    works["Rejector.predict"] = lambda: rejector.predict(x, batch_size=BATCH, verbose=0)
    turns = {name: once(work) for name, work in works.items()}
    with progress((run.rounds + 1) * len(works)) as advance:
        seconds = take_turns(turns, run.rounds, run.seconds, advance)
    ratios = {name: ratio(values, seconds["predict"]) for name, values in seconds.items()}
    run.write(images=count, batch=BATCH, seconds=seconds, ratios=ratios)
    table = rich.table.Table("work", title=f"{count:,} images of {side} x {side}, Glow of 2 levels")
    table.add_column("time / that of predict", justify="right")
    for name, figure in ratios.items():
        table.add_row(name, interval(figure))
    CONSOLE.print(table)
