"""The bytes that two workers exchange in a training step, against the size of the gradients."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import rich.table

from benchmarks import cases
from benchmarks.process import ENVIRONMENT, ROOT, WorkerFailed
from benchmarks.run import CONSOLE, Run, progress

CASES, QUICK_CASES = ("real_nvp_1024", "glow_64"), ("real_nvp",)
WORKERS, LIMIT = 2, 600


def wire(run: Run, steps: int):
    """Measures, prints a table, and writes wire.json.

    Both workers are on this machine, and every byte between them passes its loopback device, which counts them. Nothing
    else may use it meanwhile.
    """
    known, chosen = (cases.QUICK_CASES, QUICK_CASES) if run.quick else (cases.CASES, CASES)
    found = {}
    with progress(len(chosen)) as advance:
        for name in chosen:
            advance(f"wire: {name}", 0)
            found[name] = _measured(known[name], run.seed, steps)
            advance()
    run.write(workers=WORKERS, steps=steps, cases=found)
    table = rich.table.Table(title="what each of two workers sends in a training step")
    for column in ("case", "weights", "bytes of gradients", "bytes sent", "ratio"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name, row in found.items():
        ratio = row["sent"] / row["gradients"]
        table.add_row(name, *(f"{row[key]:,.0f}" for key in ("weights", "gradients", "sent")), f"{ratio:.2f}")
    CONSOLE.print(table)


def _measured(case, seed, steps):
    from tfp_hybrid.commands.distribution import CONFIGURATION, free_ports

    addresses = [f"127.0.0.1:{port}" for port in free_ports(WORKERS)]
    with tempfile.TemporaryDirectory() as folder:
        log, processes = pathlib.Path(folder) / "log", []
        for index in range(WORKERS):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            command = [sys.executable, "-m", "benchmarks.wire_worker", json.dumps(cases.to_json(case)), str(seed)]
            with open(log.with_suffix(f".{index}"), "w") as errors:
                processes.append(
                    subprocess.Popen(
                        [*command, str(steps)],
                        cwd=ROOT,
                        env=os.environ | ENVIRONMENT | {CONFIGURATION: json.dumps(task)},
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        text=True,
                    )
                )
        try:
            answers = [process.communicate(timeout=LIMIT)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        if processes[0].returncode:
            said = log.with_suffix(".0").read_text().strip().splitlines()
            raise WorkerFailed(f"crashed with status {processes[0].returncode}: {said[-1][:200] if said else ''}")
    found = json.loads(answers[0].splitlines()[-1])
    return found | {"sent": found.pop("on_the_wire") / WORKERS}
