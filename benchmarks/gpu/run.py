"""`python3 benchmarks/gpu/run.py BUNDLE OUT`: measures and trains on a GPU machine. Needs jax and numpy, and torch.

Every part is a process of its own; what compiles while MNIST is trained waits with its measurement until that is over:

    main        the most important modules; the first is compiled while nothing else runs
    exactness   beside the compilation of MNIST's step
    ceilings, main's times, the training of MNIST; beside it the others compile
    the others' times, one after the other

Results are lines of JSON in `OUT/results.jsonl`, written as they come. A part that is late is ended.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

if __name__ == "__main__":  # started as a file
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from benchmarks.gpu import bundle
from benchmarks.gpu.facts import facts
from benchmarks.gpu.part import RESULTS, emit, one_line

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOG = "log.txt"
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the card
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "PYTHONUNBUFFERED": "1",
}
# Shares of the whole time by which a part has to be over.
MAIN_COMPILED, TRAINING_STARTED, TRAINING_DONE = 0.30, 0.36, 0.76
SEVERAL = 4  # processes that compile at the same time
OTHERS = [  # from a part's name to its module and option, the most important first
    ("torch_eager", "torch_peers", "glow:eager:normflows"),
    ("torch_compile", "torch_peers", "glow:compile:normflows"),
    ("torch_reduce", "torch_peers", "glow:reduce-overhead:normflows"),
    ("stock", "timings", "stock"),
    ("glow", "timings", "glow"),
    ("real_nvp", "timings", "real_nvp"),
    ("flowjax", "jax_peers", ""),
    ("vectors_eager", "torch_peers", "real_nvp:eager:normflows,nflows,zuko"),
    ("vectors_compile", "torch_peers", "real_nvp:compile:normflows,nflows,zuko"),
    ("rgb", "timings", "rgb"),
    ("exact_rest", "exactness", "glow,rgb,stock"),
]


class Runner:
    """Starts parts, lets them go, and ends them.

    Args:
      folder: the bundle.
      out: folder for the results.
      seconds: in which all is done.
    """

    def __init__(self, folder, out, seconds: float):
        self.started = time.time()
        self.seconds = seconds
        self._folder, self._out = pathlib.Path(folder).resolve(), pathlib.Path(out).resolve()
        self._out.mkdir(parents=True, exist_ok=True)
        self.quick = json.loads((self._folder / bundle.MANIFEST).read_text())["quick"]
        self._signals = pathlib.Path(tempfile.mkdtemp())
        self._site = pathlib.Path(tempfile.mkdtemp())
        self._log = open(self._out / LOG, "a")
        self._parts = {}

    def at(self, share: float) -> float:
        """The time when this share of the seconds is over."""
        return self.started + share * self.seconds

    def unpack(self):
        """Unpacks the wheels; what the machine has itself comes first."""
        for wheel in sorted((self._folder / bundle.WHEELS).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self._site)

    def emit(self, kind, **fields):
        """Appends a line to the results."""
        emit(self._out, kind, part="run", seconds=round(time.time() - self.started, 1), **fields)

    def start(self, name: str, module: str, option: str = "", until: float = 1.0):
        """Starts a part, which is to be done at a share of the time."""
        deadline = self.at(until)
        spec = {
            "module": module,
            "name": name,
            "bundle": str(self._folder),
            "out": str(self._out),
            "deadline": deadline,
            "option": option,
            "signals": str(self._signals),
            "quick": self.quick,
        }
        # Found last, so that the machine's own packages are preferred.
        code = f"import sys; sys.path.append({str(self._site)!r}); from benchmarks.gpu.part import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(spec)],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._parts[name] = process, deadline
        self.emit("started", name=name)

    def is_ready(self, name: str) -> bool:
        """Whether a part has compiled all, or is over."""
        return (self._signals / f"{name}.ready").exists() or self._parts[name][0].poll() is not None

    def is_over(self, name: str) -> bool:
        """Whether a part's process has ended, or should have."""
        process, deadline = self._parts[name]
        return process.poll() is not None or time.time() > deadline

    def wait_ready(self, names, until: float, first_compiled: str = ""):
        """Waits until parts are ready, at most until a share of the time is over.

        Args:
          names: of the parts.
          until: the share.
          first_compiled: wait only until this part has its first module compiled.
        """
        while time.time() < self.at(until):
            if first_compiled and (self._has_compiled(first_compiled) or self.is_ready(first_compiled)):
                return
            if not first_compiled and all(map(self.is_ready, names)):
                return
            time.sleep(0.1)
        self.emit("late", names=[name for name in names if not self.is_ready(name)])

    def go(self, name: str):
        """Lets a part measure, and waits until it is over or late."""
        self.release(name)
        self.wait(name)

    def release(self, name: str):
        """Lets a part go on as soon as it is ready."""
        (self._signals / f"{name}.go").touch()

    def wait(self, name: str):
        """Waits until a part is over; ends it when it is late."""
        process, deadline = self._parts[name]
        try:
            status = process.wait(max(0.1, deadline + 3 - time.time()))
            if status:
                self.emit("failed", name=name, status=status)
        except subprocess.TimeoutExpired:
            self._end(name)

    def close(self):
        """Ends what still runs."""
        for name, (process, _) in self._parts.items():
            if process.poll() is None:
                self._end(name)
        self._log.close()
        for folder in (self._signals, self._site):
            shutil.rmtree(folder, ignore_errors=True)

    def _end(self, name):
        process = self._parts[name][0]
        try:
            os.killpg(process.pid, 9)  # its own session: the compilers that it started, too
        except ProcessLookupError:
            pass
        process.wait()
        self.emit("ended", name=name, reason="late")

    def _has_compiled(self, name):
        lines = (self._out / RESULTS).read_text().splitlines()
        return any(line["kind"] == "compiled" and line.get("part") == name for line in map(json.loads, lines))


def run(folder, out, seconds: float = 530.0):
    """Runs all parts.

    Args:
      folder: the bundle that `prepare` wrote.
      out: folder for the results.
      seconds: in which all is done.
    """
    runner = Runner(folder, out, seconds)
    try:
        runner.emit("machine", **facts())
        runner.unpack()
        _run(runner)
    except Exception as error:
        runner.emit("error", what="run", error=one_line(error))
        raise
    finally:
        runner.close()
        emit(out, "end", seconds=round(time.time() - runner.started, 1))


def _run(runner):
    runner.start("main", "timings", "main", until=TRAINING_STARTED)
    runner.wait_ready(["main"], MAIN_COMPILED / 2, first_compiled="main")
    runner.start("mnist", "mnist_training", until=TRAINING_DONE)
    runner.start("exact", "exactness", "main,real_nvp", until=TRAINING_STARTED)
    runner.wait_ready(["main", "mnist"], MAIN_COMPILED)
    runner.wait("exact")
    runner.start("ceilings", "ceilings", until=TRAINING_STARTED)
    runner.go("ceilings")
    runner.go("main")
    runner.release("mnist")
    # Beside the training the others compile, a few at a time.
    waiting, compiling = list(OTHERS), []
    while waiting and not runner.is_over("mnist"):
        compiling = [name for name in compiling if not runner.is_ready(name)]
        while waiting and len(compiling) < SEVERAL:
            name, module, option = waiting.pop(0)
            runner.start(name, module, option)
            compiling.append(name)
        time.sleep(0.2)
    runner.wait("mnist")
    for name, *_ in OTHERS[: len(OTHERS) - len(waiting)]:
        runner.go(name)
    for name, module, option in waiting:
        runner.start(name, module, option)
        runner.go(name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="the folder that prepare wrote")
    parser.add_argument("out", help="folder for the results")
    parser.add_argument("--seconds", type=float, default=530.0, help="in which all is done")
    arguments = parser.parse_args()
    run(arguments.bundle, arguments.out, arguments.seconds)


if __name__ == "__main__":
    main()
