"""Scoring a Parquet file of any number of rows, against the compiled pass alone."""

import os
import pathlib
import shutil
import tempfile
import time
from typing import Annotated

import rich.table
import typer

from benchmarks import resident
from benchmarks.process import ENVIRONMENT
from benchmarks.run import CONSOLE, Run, progress
from benchmarks.stream import COUPLINGS, HIDDEN, LEVELS, in_new_process

BARE_SECONDS = 5.0
HELD_OUT = 20_000


def score_file(
    rows: Annotated[int, typer.Option(min=1, help="Rows of the file, which repeats the flights.")] = 100_000_000,
    folder: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for the files, deleted afterwards; a temporary one by default. 30 bytes a row."),
    ] = None,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the JSON file.")] = pathlib.Path("benchmarks/results"),
    seed: Annotated[int, typer.Option(help="Random seed of the weights.")] = 0,
    data_dir: Annotated[str | None, typer.Option(help="Folder of flights; defaults to $TFDS_DATA_DIR.")] = None,
):
    """Scores a Parquet file of flights as `tfp-hybrid score` does; measures rows/s and peak memory.

    The compiled pass, of one batch in memory, computes all that the model says about a row: the prediction, its
    uncertainty and log p(x), which is the score. It is measured before and after, in the same process. The rest
    is reading, checking, percentiles and writing.
    """
    os.environ.update(ENVIRONMENT)
    run = Run("score_file", out, rounds=1, seconds=BARE_SECONDS, seed=seed, quick=False)
    place = pathlib.Path(tempfile.mkdtemp(prefix="score_file_", dir=folder))
    try:
        with progress(3) as advance:
            advance("writing the file", 0)
            try:
                size = in_new_process(_write_flights, place / "flights.parquet", rows, data_dir)
                advance("preparing the model")
                in_new_process(_save_model, place / "run", seed, data_dir)
            except ConnectionError as error:
                raise typer.BadParameter(str(error)) from None
            advance("scoring")
            result = in_new_process(_measure, place)
            advance()
    finally:
        shutil.rmtree(place)
    result["ratio"] = result["rows_per_second"] / result["bare_rows_per_second"]
    run.write(
        model=f"RealNVP {COUPLINGS} couplings, {len(HIDDEN)} x {HIDDEN[0]} hidden, HeteroscedasticNormal, -log p(x)",
        rows=rows,
        file_bytes=size,
        **result,
    )
    _print(rows, size, result)


def _write_flights(path, rows, data_dir):
    """Writes the training rows of flights repeatedly, with pyarrow's default row groups; returns the file size."""
    import pyarrow
    import pyarrow.parquet

    from tfp_hybrid import datasets

    flights = datasets.load("flights", data_dir=data_dir)
    x, _ = flights.train
    table = pyarrow.table({name: x[:, i] for i, name in enumerate(flights.feature_names)})
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for first in range(0, rows, len(table)):
            writer.write_table(table.slice(0, rows - first))
    return path.stat().st_size


def _save_model(folder, seed, data_dir):
    """Saves a model whose flow is adapted to flights but not trained, which takes as long, and its rejector."""
    import keras

    import tfp_hybrid as hy
    from tfp_hybrid import datasets

    keras.utils.set_random_seed(seed)
    flights = datasets.load("flights", data_dir=data_dir)
    size = len(flights.feature_names)
    flow = hy.bijectors.RealNVP((size,), couplings=COUPLINGS, hidden_units=HIDDEN, quantization_levels=LEVELS)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.HeteroscedasticNormal())
    x, y = flights.train
    model.adapt(x[:HELD_OUT], y[:HELD_OUT])
    model.feature_names = flights.feature_names
    folder.mkdir()
    model.save(folder / "model.keras")
    held_out, score = flights.validation[0][:HELD_OUT], hy.uncertainty.NegativeLogProb()
    hy.uncertainty.Rejector(model, score).fit_threshold(held_out, quantile=0.99).save(folder / "rejector.keras")


def _measure(folder):
    """Returns the rows per second of the compiled pass and of the command, and the peak of the resident memory."""
    from tfp_hybrid import commands, serving

    scorer = serving.Scorer(folder / "run")
    bare = [_bare_rows_per_second(scorer, folder / "flights.parquet")]
    before = resident.resident()
    resident.reset_peak()
    start, cpu = time.perf_counter(), time.process_time()
    path, rows = commands.score_file(folder / "run", folder / "flights.parquet", folder / "scores.parquet")
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resident.peak()
    bare.append(_bare_rows_per_second(scorer, folder / "flights.parquet"))
    return {
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "cpu_microseconds_per_row": 1e6 * cpu / rows,
        "bare_rows_per_second": sum(bare) / 2,
        "bare_rows_per_second_before_and_after": bare,
        "batch": scorer.answers.batch_size,
        "resident_bytes_before": before,
        "peak_bytes": peak,
        "scores_bytes": path.stat().st_size,
    }


def _bare_rows_per_second(scorer, path):
    import pyarrow.parquet
    import tensorflow as tf

    answers = scorer.answers
    table = next(pyarrow.parquet.ParquetFile(path).iter_batches(answers.batch_size))
    x = tf.constant(scorer.inputs(table))
    for _ in range(3):
        answers.bare_pass(x)
    start, calls = time.perf_counter(), 0
    while (seconds := time.perf_counter() - start) < BARE_SECONDS:
        answers.bare_pass(x)["log_prob_x"].numpy()
        calls += 1
    return calls * len(x) / seconds


def _print(rows, size, result):
    table = rich.table.Table(title=f"{rows:,} rows of 8 columns, {size / 1e9:.2f} GB of Parquet")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("score_file, rows/s", f"{result['rows_per_second']:,.0f}")
    table.add_row("compiled pass, rows/s", f"{result['bare_rows_per_second']:,.0f}")
    table.add_row("ratio", f"{result['ratio']:.3f}")
    table.add_row("peak memory, MB", f"{result['peak_bytes'] / 1e6:,.0f}")
    table.add_row("of which imports and the model, MB", f"{result['resident_bytes_before'] / 1e6:,.0f}")
    table.add_row("scores, GB", f"{result['scores_bytes'] / 1e9:.3f}")
    table.add_row("seconds", f"{result['seconds']:,.1f}")
    CONSOLE.print(table)
