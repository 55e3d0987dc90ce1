"""The parent's side of a worker process."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

from benchmarks import cases

ROOT = pathlib.Path(__file__).parents[1]
LIMIT = 300.0
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "OMP_WAIT_POLICY": "passive",  # threads of an idle worker must not spin
    "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",  # so that each time to the first step includes compilation
}


class WorkerFailed(Exception):
    """Raised if a contestant raises an exception, crashes or takes too long; the message is one line."""


class Worker:
    """A contestant in its own process; a context manager that ends the process.

    Args:
      library: Name of the package.
      variant: Variant of the package, such as eager or compiled.
      tasks: `(case, work)` pairs. All are built and called once before the constructor returns.
      seed: Random seed of the data.
      limit: Maximum time in seconds for building a task.

    Attributes:
      starts: The worker's answer for each task; see worker.py.

    Raises:
      WorkerFailed: If a task cannot be built.
    """

    def __init__(self, library, variant, tasks, seed, limit=LIMIT):
        spec = {
            "library": library,
            "variant": variant,
            "seed": seed,
            "tasks": [{"case": cases.to_json(case), "work": work} for case, work in tasks],
        }
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(spec)],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self.starts = [self._answer(limit) for _ in tasks]
        except BaseException:
            self.close()
            raise

    def turn(self, seconds: float, task: int = 0) -> dict:
        """Lets the worker run one of its tasks for some seconds, and returns its answer; see worker.py."""
        with contextlib.suppress(BrokenPipeError):  # it crashed, which `_answer` reports
            self._process.stdin.write(json.dumps({"task": task, "seconds": seconds}) + "\n")
            self._process.stdin.flush()
        return self._answer(seconds + LIMIT)

    def close(self):
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _answer(self, limit):
        late = threading.Event()
        timer = threading.Timer(limit, lambda: (late.set(), self._process.kill()))
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if late.is_set():
            raise WorkerFailed(f"not ready after {limit:.0f} s")
        if not line:
            raise WorkerFailed(f"crashed with status {self._process.wait()}: {self._last_error()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        return answer

    def _last_error(self):
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1][:200] if lines else "no message"
