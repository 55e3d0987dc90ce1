"""`python3 benchmarks/gpu/run.py BUNDLE OUT`: measures and trains on a GPU machine. Needs jax and numpy, and torch.

Every part is a process of its own; what compiles while MNIST is trained waits with its measurement until that is over:

    the most important module is compiled while nothing else runs; then the rest of its group, the wide models, the
    step of MNIST, and, beside these, exactness is checked;
    the ceilings, and the times of what is compiled;
    the training of MNIST, beside which the others compile;
    the others' times, one after the other.

Results are lines of JSON in `OUT/results.jsonl`, written as they come. A part that is late is ended.
"""

import argparse
import json
import math
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
from benchmarks.gpu.part import emit, one_line, read

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOG, LARGEST_LOG = "log.txt", 8 * 2**20
ENVIRONMENT = {
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the card
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "PYTHONUNBUFFERED": "1",
}
# Shares of the whole time by which a part has to be over.
FIRST_COMPILED, MAIN_COMPILED, TRAINING_STARTED, TRAINING_DONE, ALL_COMPILED = 0.15, 0.28, 0.36, 0.76, 0.72
UNDISTURBED = 0.65  # until then, the others measure only when nothing compiles
UNUSED = ("matplotlib.pyplot",)  # modules that the other packages import and do not need here
SEVERAL = 8  # processes that compile at the same time
LEAST = 20.0  # seconds without which no part is started
LIMIT = 60.0  # seconds of a part's measurements
NHWC = {"XLA_FLAGS": "--xla_gpu_force_conv_nhwc=true"}
OTHERS = [  # name, module and option of each part, the most important first
    ("again", "timings", "main"),  # right before PyTorch's, with which it is compared; and shows how times vary
    ("torch_eager", "torch_peers", "glow:eager:normflows"),
    # A Glow's step compiles for a minute or more: each in a process of its own.
    ("torch_compile", "torch_peers", "glow:compile:normflows:step.0"),
    ("torch_reduce", "torch_peers", "glow:reduce-overhead:normflows:step.0"),
    ("torch_compile_large", "torch_peers", "glow:compile:normflows:step.1"),
    ("torch_reduce_large", "torch_peers", "glow:reduce-overhead:normflows:step.1"),
    ("served", "timings", "served"),
    ("stock", "timings", "stock"),
    ("glow", "timings", "glow"),
    ("torch_compile_served", "torch_peers", "glow:compile:normflows:density.1,sample.1"),
    ("torch_reduce_served", "torch_peers", "glow:reduce-overhead:normflows:density.1,sample.1"),
    ("real_nvp", "timings", "real_nvp"),
    ("flowjax", "jax_peers", ""),
    ("vectors_eager", "torch_peers", "real_nvp:eager:normflows,nflows,zuko"),
    ("vectors_compile", "torch_peers", "real_nvp:compile:normflows,nflows,zuko"),
    ("rgb", "timings", "rgb"),
    ("nhwc", "timings", "main"),
    ("exact_rest", "exactness", "real_nvp,wide,glow,rgb,stock"),
]


class Runner:
    """Starts parts, lets them go, and ends them.

    Args:
      folder: the bundle.
      out: folder for the results.
      seconds: in which all is done.
      only: names of the parts; empty for all. Another's process is never started, and counts as over.
    """

    def __init__(self, folder, out, seconds: float, only=()):
        self.started = time.time()
        self.seconds = seconds
        self._folder, self._out = pathlib.Path(folder).resolve(), pathlib.Path(out).resolve()
        self._out.mkdir(parents=True, exist_ok=True)
        self.quick = json.loads((self._folder / bundle.MANIFEST).read_text())["quick"]
        self._signals = pathlib.Path(tempfile.mkdtemp())
        self._site = pathlib.Path(tempfile.mkdtemp())
        self._log = open(self._out / LOG, "a")
        self._parts, self._over, self._only = {}, set(), only

    def at(self, share: float) -> float:
        """The time when this share of the seconds is over."""
        return self.started + share * self.seconds

    def unpack(self):
        """Unpacks the wheels; what the machine has itself comes first."""
        for wheel in sorted((self._folder / bundle.WHEELS).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self._site)
        for module in UNUSED:
            file = self._site / f"{module.replace('.', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
            (file.parent / "__init__.py").touch()

    def emit(self, kind, **fields):
        """Appends a line to the results."""
        emit(self._out, kind, part="run", seconds=round(time.time() - self.started, 1), **fields)

    def start(self, name: str, module: str, option: str = "", until: float = 1.0, compile_until: float = 1.0):
        """Starts a part.

        Args:
          name: of the part.
          module: of this package, in which its function `work` is.
          option: what it is to do.
          until: share of the time at which it is to be done.
          compile_until: share of the time after which it measures what it has compiled by then.
        """
        if self._only and name not in self._only:
            return
        deadline = self.at(until)
        spec = {
            "module": module,
            "name": name,
            "bundle": str(self._folder),
            "out": str(self._out),
            "deadline": deadline,
            "compile_until": self.at(compile_until),
            "option": option,
            "signals": str(self._signals),
            "quick": self.quick,
        }
        # Found last, so that the machine's own packages are preferred.
        code = f"import sys; sys.path.append({str(self._site)!r}); from benchmarks.gpu.part import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, json.dumps(spec)],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | self._caches(name) | (NHWC if name == "nhwc" else {}),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._parts[name] = process, deadline
        self.emit("started", name=name)

    def is_ready(self, name: str) -> bool:
        """Whether a part has compiled all, or is over."""
        if name not in self._parts:
            return True
        return (self._signals / f"{name}.ready").exists() or self._parts[name][0].poll() is not None

    def remaining(self) -> float:
        """Seconds that are left."""
        return self.at(1.0) - time.time()

    def is_over(self, name: str) -> bool:
        """Whether a part's process has ended, or should have."""
        if name not in self._parts:
            return True
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

    def go(self, name: str, limit: float = math.inf):
        """Lets a part measure, and waits until it is over, late, or over its limit of seconds."""
        if name not in self._parts:
            return
        self.release(name)
        process, deadline = self._parts[name]
        self._parts[name] = process, min(deadline, time.time() + limit)
        self.wait(name)

    def release(self, name: str):
        """Lets a part go on as soon as it is ready."""
        (self._signals / f"{name}.go").touch()

    def wait(self, name: str):
        """Waits until a part is over; ends it when it is late."""
        if name not in self._parts or name in self._over:
            return
        process, deadline = self._parts[name]
        self._over.add(name)
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
        log = self._out / LOG
        if log.stat().st_size > LARGEST_LOG:
            log.write_bytes(log.read_bytes()[-LARGEST_LOG:])
        for folder in (self._signals, self._site):
            shutil.rmtree(folder, ignore_errors=True)

    def _caches(self, name):
        """Folders of its own for what a part compiles: two processes that compile alike would get into each other's."""
        return {f"{tool}_CACHE_DIR": str(self._signals / f"{tool}_{name}") for tool in ("TORCHINDUCTOR", "TRITON")}

    def _end(self, name):
        process = self._parts[name][0]
        try:
            os.killpg(process.pid, 9)  # its own session: the compilers that it started, too
        except ProcessLookupError:
            pass
        process.wait()
        self.emit("ended", name=name, reason="late")

    def _has_compiled(self, name):
        if name not in self._parts:
            return True
        return any(line["kind"] == "compiled" and line.get("part") == name for line in read(self._out))


def run(folder, out, seconds: float = 530.0, only=()):
    """Runs all parts.

    Args:
      folder: the bundle that `prepare` wrote.
      out: folder for the results.
      seconds: in which all is done.
      only: names of the parts to run; empty for all.
    """
    runner = Runner(folder, out, seconds, only)
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
    first = {"until": TRAINING_STARTED, "compile_until": MAIN_COMPILED - 0.05}
    runner.start("main", "timings", "main", **first)
    runner.wait_ready(["main"], FIRST_COMPILED, first_compiled="main")
    runner.start("mnist", "mnist_training", until=TRAINING_DONE)
    runner.start("wide", "timings", "wide", **first)
    runner.start("exact", "exactness", "main", until=MAIN_COMPILED)
    runner.wait_ready(["main", "wide", "mnist"], MAIN_COMPILED)
    runner.wait("exact")
    runner.start("ceilings", "ceilings", until=TRAINING_STARTED)
    for name in ("ceilings", "main", "wide"):
        runner.go(name, LIMIT)
    runner.release("mnist")
    # Beside the training the others compile, a few at a time; then each measures, those first that are ready.
    waiting, pending = list(OTHERS), []
    while waiting or pending:
        compiling = [name for name in pending if not runner.is_ready(name)]
        while waiting and len(compiling) < SEVERAL and runner.remaining() > LEAST:
            name, module, option = waiting.pop(0)
            runner.start(name, module, option, compile_until=ALL_COMPILED)
            pending.append(name)
            compiling.append(name)
        quiet = not compiling and not (waiting and runner.remaining() > LEAST)
        if runner.is_over("mnist") and (quiet or time.time() > runner.at(UNDISTURBED)):
            runner.wait("mnist")
            ready = [name for name in pending if runner.is_ready(name)]
            if ready:
                pending.remove(ready[0])
                runner.go(ready[0], LIMIT)
            elif not pending or runner.remaining() < 1:
                break
        time.sleep(0.1)
    for name in [*pending, *(name for name, *_ in waiting)]:
        runner.emit("skipped", what=name, reason="no time left")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="the folder that prepare wrote")
    parser.add_argument("out", help="folder for the results")
    parser.add_argument("--seconds", type=float, default=530.0, help="in which all is done")
    parser.add_argument("--only", default=[], nargs="*", help="names of the parts to run; all without it")
    arguments = parser.parse_args()
    run(arguments.bundle, arguments.out, arguments.seconds, arguments.only)


if __name__ == "__main__":
    main()
