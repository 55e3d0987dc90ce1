"""Compares training on a streamed Parquet file with training on the same rows in memory."""

import concurrent.futures
import multiprocessing
import os
import pathlib
import tempfile
import time
from typing import Annotated

import rich.table
import typer

from benchmarks import resident
from benchmarks.process import ENVIRONMENT
from benchmarks.run import CONSOLE, Run, progress

HIDDEN, COUPLINGS, LEVELS = (64, 64), 8, 10_000  # all attributes of flights are whole numbers below 10,000
STEPS_PER_EXECUTION = 16
MODES = {
    "reading": "from_parquet alone",
    "streamed": "fit(from_parquet(...))",
    "in memory": "fit(x, y), numpy arrays",
}


def stream(
    rows: Annotated[int, typer.Option(min=1, help="Minimum rows of the table, which repeats flights.")] = 5_000_000,
    batch: Annotated[int, typer.Option(min=1, help="Batch size.")] = 4096,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the JSON file.")] = pathlib.Path("benchmarks/results"),
    seed: Annotated[int, typer.Option(help="Random seed of the weights and the order.")] = 0,
    data_dir: Annotated[str | None, typer.Option(help="Folder of flights; defaults to $TFDS_DATA_DIR.")] = None,
):
    """Trains a RealNVP for an epoch on a shuffled Parquet stream and on arrays; measures rows/s and peak memory.

    Each run has its own process. The time excludes the first 16 steps, which include compilation. On a machine that is
    not idle, rows per CPU second are more informative than rows per second.
    """
    steps = -(-rows // (batch * STEPS_PER_EXECUTION)) * STEPS_PER_EXECUTION
    if steps < 2 * STEPS_PER_EXECUTION:
        raise typer.BadParameter(f"--rows is {rows}; wanted more than {STEPS_PER_EXECUTION} batches of {batch}.")
    os.environ.update(ENVIRONMENT)
    run = Run("stream", out, rounds=1, seconds=0.0, seed=seed, quick=False)
    with tempfile.TemporaryDirectory() as folder, progress(1 + len(MODES)) as advance:
        advance("writing the table", 0)
        path = pathlib.Path(folder) / "flights.parquet"
        try:
            size = in_new_process(_write_table, path, steps * batch, data_dir)
        except ConnectionError as error:
            raise typer.BadParameter(str(error)) from None
        results = {}
        for mode, title in MODES.items():
            advance(title)
            results[mode] = in_new_process(_measure, mode, path, batch, seed)
        advance()
    ratio = results["streamed"]["rows_per_second"] / results["in memory"]["rows_per_second"]
    cpu = results["in memory"]["cpu_microseconds_per_row"] / results["streamed"]["cpu_microseconds_per_row"]
    run.write(
        model=f"RealNVP {COUPLINGS} couplings, {len(HIDDEN)} x {HIDDEN[0]} hidden, HeteroscedasticNormal, "
        f"{STEPS_PER_EXECUTION} steps a call",
        rows=steps * batch,
        batch=batch,
        file_bytes=size,
        results=results,
        streamed_by_in_memory=ratio,
        streamed_by_in_memory_per_cpu_second=cpu,
    )
    _print(results, steps * batch, batch, ratio, cpu)


def in_new_process(function, *arguments):
    """Returns what a function returns in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn, initializer=_silence) as pool:
        return pool.submit(function, *arguments).result()


def _silence():
    """Suppresses TensorFlow's messages on the standard error stream; exceptions are still returned."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _write_table(path, rows, data_dir):
    """Writes the training rows of flights repeatedly, with pyarrow's default row groups; returns the file size."""
    import pyarrow
    import pyarrow.parquet

    from tfp_hybrid import datasets

    flights = datasets.load("flights", data_dir=data_dir)
    x, y = flights.train
    columns = {name: x[:, i] for i, name in enumerate(flights.feature_names)} | {"ArrDelay": y}
    table = pyarrow.table(columns)
    with pyarrow.parquet.ParquetWriter(path, table.schema) as writer:
        for first in range(0, rows, len(y)):
            writer.write_table(table.slice(0, rows - first))
    return path.stat().st_size


def _measure(mode, path, batch, seed):
    """Returns the rows per second, the CPU time per row, and the peak of the process's resident memory in bytes."""
    import keras
    import numpy as np
    import pandas as pd

    import tfp_hybrid as hy
    from tfp_hybrid.datasets.flight_tables import FEATURES, TARGET

    keras.utils.set_random_seed(seed)
    before = resident.resident()
    if mode == "in memory":
        table = pd.read_parquet(path)
        data = table[list(FEATURES)].to_numpy(np.float32), table[TARGET].to_numpy(np.float32)
        del table
        options = dict(batch_size=batch, shuffle=True)
    else:
        data = (hy.datasets.from_parquet(path, FEATURES, TARGET, batch, drop_remainder=True),)
        options = dict(shuffle=False)  # the stream does it
    if mode == "reading":
        ends = [(0, *_clocks())]
        steps = sum(1 for _ in data[0])
        ends.append((steps, *_clocks()))
        fit_seconds = None
    else:
        flow = hy.bijectors.RealNVP(
            (len(FEATURES),), couplings=COUPLINGS, hidden_units=HIDDEN, quantization_levels=LEVELS
        )
        model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.HeteroscedasticNormal(), generative_weight=0.1)
        model.compile(keras.optimizers.Adam(1e-3), steps_per_execution=STEPS_PER_EXECUTION)
        ends = []
        watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: ends.append((step, *_clocks())))
        first = time.perf_counter()
        model.fit(*data, **options, epochs=1, callbacks=[watch], verbose=0)
        fit_seconds = time.perf_counter() - first
    steps, seconds, cpu_seconds = (last - first for first, last in zip(ends[0], ends[-1], strict=True))
    return {
        "rows_per_second": steps * batch / seconds,
        "cpu_microseconds_per_row": 1e6 * cpu_seconds / (steps * batch),
        "fit_seconds": fit_seconds,
        "resident_bytes_before": before,
        "peak_bytes": resident.peak(),
    }


def _clocks():
    """Returns the wall-clock time, and the CPU time of all threads, in seconds."""
    return time.perf_counter(), time.process_time()


def _print(results, rows, batch, ratio, cpu):
    table = rich.table.Table("", title=f"an epoch of {rows:,} rows, batch {batch}")
    for title in ("rows/s", "CPU, us a row", "seconds of fit", "peak memory, MiB", "of which imports, MiB"):
        table.add_column(title, justify="right")
    for mode, result in results.items():
        seconds = result["fit_seconds"]
        sizes = (f"{result[key] / 2**20:,.0f}" for key in ("peak_bytes", "resident_bytes_before"))
        table.add_row(
            MODES[mode],
            f"{result['rows_per_second']:,.0f}",
            f"{result['cpu_microseconds_per_row']:.2f}",
            "-" if seconds is None else f"{seconds:.1f}",
            *sizes,
        )
    CONSOLE.print(table)
    CONSOLE.print(
        f"Streamed / in memory: {ratio:.2f} in rows a second, {cpu:.2f} in rows a CPU second", highlight=False
    )
