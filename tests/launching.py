"""Processes on this machine that do the jobs of `worker.py` together."""

import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

from tfp_hybrid.commands.distribution import free_ports

WORKER = pathlib.Path(__file__).with_name("worker.py")


def start(jobs, folder, count):
    """Starts the processes that do the jobs together, each with a folder of its own for results and messages."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    processes = []
    for index in range(count):
        out = folder / f"{index}_of_{count}"
        out.mkdir()
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | ({"TF_CONFIG": json.dumps(task)} if count > 1 else {})
        with open(out / "log", "w") as log:
            command = [sys.executable, WORKER, json.dumps(jobs), out]
            processes.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT))
    return processes


def results(jobs, folder, count):
    """What each process has found: a list of the results of the jobs."""
    processes = start(jobs, folder, count)
    codes = [process.wait(timeout=600) for process in processes]
    folders = [folder / f"{index}_of_{count}" for index in range(count)]
    assert codes == [0] * count, "\n".join((place / "log").read_text()[-3000:] for place in folders)
    return [[dict(np.load(place / f"job_{number}.npz")) for number in range(len(jobs))] for place in folders]


def wait_until(condition, seconds):
    """Waits until a condition holds, or so many seconds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.0005)
