"""The latency of one row through a SavedModel, with all answers and with the prediction alone."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import rich.table

from benchmarks import cases
from benchmarks.process import ENVIRONMENT, WorkerFailed
from benchmarks.run import CONSOLE, Run, progress
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector

WHAT = ("all answers", "the prediction alone")
CASES, QUICK_CASES = ("real_nvp_1024", "glow_64"), ("real_nvp",)


def latency(run: Run, requests: int):
    """Measures, prints a table, and writes latency.json.

    The prediction alone comes from the same network with the same weights: what only log p(x), the score and the other
    answers need is not computed.
    """
    known, chosen = (cases.QUICK_CASES, QUICK_CASES) if run.quick else (cases.CASES, CASES)
    found = {}
    with progress(len(chosen)) as advance:
        for name in chosen:
            advance(f"latency: {name}", 0)
            found[name] = _measured(known[name], run.seed, 20 if run.quick else requests)
            advance()
    run.write(requests=20 if run.quick else requests, milliseconds=found)
    table = rich.table.Table("case", "answers", title="one row through a SavedModel, ms")
    for column in ("p50", "p99"):
        table.add_column(column, justify="right")
    for name, rows in found.items():
        for what, row in rows.items():
            table.add_row(name, what, *(f"{value:.2f}" for value in row.values()))
    CONSOLE.print(table)


def _measured(case, seed, requests):
    from benchmarks.contestants import tfp_hybrid as ours

    data = cases.batches(case, seed)
    model = ours.compiled_model(case, data)
    rows = np.concatenate(data[0]).astype(model.input_signature[0].dtype)
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(rows[:1000], quantile=0.99)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rejector.export(folder / "rejector", verbose=False)
        model.export(folder / "model", verbose=False)
        np.save(folder / "rows.npy", np.resize(rows, (requests, *rows.shape[1:])))
        targets = [f"{folder / 'rejector'}:serving_default", f"{folder / 'model'}:serve"]
        script = pathlib.Path(__file__).with_name("answering.py")
        command = [sys.executable, str(script), str(folder / "rows.npy"), *targets]
        done = subprocess.run(command, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise WorkerFailed(f"crashed with status {done.returncode}: {done.stderr.strip().splitlines()[-1][:200]}")
    seconds = json.loads(done.stdout.splitlines()[-1])
    return {what: _percentiles(spent) for what, spent in zip(WHAT, seconds, strict=True)}


def _percentiles(seconds):
    return {f"p{percent}": 1000 * float(np.percentile(seconds, percent)) for percent in (50, 99)}
