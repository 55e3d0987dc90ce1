"""Trains, kills and resumes small runs of `tfp-hybrid train digits`: `python killing.py FOLDER`.

Everything is imported once; each training is a fork of this process, in which TensorFlow has not started yet.
FOLDER/uninterrupted is a run in peace. FOLDER/0_0, FOLDER/0_1, ... are runs that are killed again and again: at random
moments and, every other time, before or after one of the calls that write files. FOLDER/kills_0.json lists the kills.
"""

import dataclasses
import functools
import json
import os
import pathlib
import random
import signal
import sys
import time
import traceback

from tfp_hybrid import bijectors, cli, datasets, files, networks, recipes
from tfp_hybrid.commands import checkpoint, report

EPOCHS, CHAINS, KILLS = 3, 2, 10  # kills of each chain
WRITING = ("replace", "fsync", "unlink")


def make_small():
    """What is traced quickly, on few rows, with dropout and augmentation; and a checkpoint after every other step."""

    def flow(dataset):
        conditioner = functools.partial(networks.ConvNet, hidden_units=4, dropout=0.1)
        return bijectors.Glow((8, 8, 1), levels=1, steps=1, conditioner=conditioner, quantization_levels=17)

    def load(*args, load=datasets.load, **options):
        dataset = load(*args, **options)
        parts = ("train", 192), ("validation", 100), ("test", 100)
        return dataclasses.replace(dataset, **{n: tuple(a[:rows] for a in getattr(dataset, n)) for n, rows in parts})

    recipes._RECIPES["digits"] = dataclasses.replace(recipes.digits.RECIPE, flow=flow)
    datasets.load = load
    checkpoint.Checkpoint.__init__.__defaults__ = (2,)
    report.write = lambda path, *rest: files.write(path, "drawn")


def start(folder, place=None):
    """Forks a training, which is killed at the `place`-th half of a call that writes; returns its process id."""
    child = os.fork()
    if child:
        return child
    log = os.open(folder.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    count_writes(folder, place)
    arguments = ["train", "digits", "--epochs", str(EPOCHS), "--ood", "noise", "--out", str(folder)]
    try:
        cli.app(arguments + ["--resume"] * folder.exists())
    except SystemExit as end:
        os._exit(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


def count_writes(folder, place):
    """Counts the halves of calls in FOLDER.count; SIGKILL at number `place`."""
    halves = 0

    def half():
        nonlocal halves
        halves += 1
        folder.with_suffix(".count").write_text(str(halves))
        if halves == place:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(call):
        def wrapped(*args, **kwargs):
            half()
            result = call(*args, **kwargs)
            half()
            return result

        return wrapped

    for name in WRITING:
        setattr(os, name, counted(getattr(os, name)))


def ended(child, timeout=None):
    """Waits for the training, and kills it after the timeout; returns whether it was killed."""
    stop = None if timeout is None else time.monotonic() + timeout
    while True:
        done, status = os.waitpid(child, 0 if stop is None else os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if code not in (0, -signal.SIGKILL):
                raise RuntimeError(f"The training ended with status {code}.")
            return code != 0
        if time.monotonic() > stop:
            os.kill(child, signal.SIGKILL)
            stop = None
        time.sleep(0.01)


def finished(out):
    """Whether nothing is left to do, by the files."""
    return (out / "metrics.json").exists() and not (out / "config.json").exists()


def chain(folder, number, seconds, halves):
    """Kills trainings until there are enough kills, and lets the last one finish."""
    rng, kills, run = random.Random(number), [], 0
    while True:
        out = folder / f"{number}_{run}"
        place = timeout = None
        if len(kills) < KILLS:
            if len(kills) % 2:
                timeout = rng.uniform(0, seconds)
            else:  # every other time one of the last, which decide whether a run is finished
                place = rng.randint(halves - 8 if len(kills) % 4 else 1, halves)
        enough = len(kills) == KILLS
        if ended(start(out, place), timeout):
            kills.append({"run": out.name, "second": timeout, "place": place})
            if not finished(out):
                continue
        if enough:
            break
        run += 1
    (folder / f"kills_{number}.json").write_text(json.dumps(kills))


def main(folder):
    make_small()
    peace = folder / "uninterrupted"
    started = time.monotonic()
    ended(start(peace))
    seconds, halves = time.monotonic() - started, int(peace.with_suffix(".count").read_text())
    chains = []
    for number in range(CHAINS):
        chains.append(os.fork())
        if not chains[-1]:
            chain(folder, number, seconds, halves)
            os._exit(0)
    for child in chains:
        ended(child)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
