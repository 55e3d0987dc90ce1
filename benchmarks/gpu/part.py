"""One part of a run, in a process of its own: `python -m benchmarks.gpu.part SPEC`, SPEC being JSON.

A part first compiles what it needs, says that it is ready, waits to be let go, and measures. Each result is a line of
JSON, written at once, so that a part that is cut off keeps what it had.
"""

import importlib
import json
import math
import os
import pathlib
import sys
import time
import traceback

from benchmarks.gpu.bundle import Bundle

RESULTS = "results.jsonl"
BATCHES = 4  # of data, over which the steps cycle
SECONDS, LEAST_CALLS = 0.7, 4  # of a measurement


class Context:
    """What a part works with.

    Args:
      name: of the part.
      bundle, out: folders of the bundle and of the results.
      deadline: when the part has to be done, as `time.time()` tells it.
      compile_until: when it compiles no more, and measures what it has.
      option: what the part is to do, such as the name of a group of modules.
      signals: folder of the files `NAME.ready` and `NAME.go`; None to go at once.
      quick: a trial run with few repetitions.
    """

    def __init__(self, name, bundle, out, deadline, compile_until, option="", signals=None, quick=False):
        self.name, self.option, self.deadline, self.quick = name, option, deadline, quick
        self._compile_until = compile_until
        self.bundle, self.out = Bundle(bundle), pathlib.Path(out)
        self._signals = signals and pathlib.Path(signals)

    def emit(self, kind: str, **fields):
        """Appends a line to the results."""
        emit(self.out, kind, part=self.name, **fields)

    def remaining(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def wait(self):
        """Says that all is compiled, and waits to be let go."""
        if self._signals is None:
            return
        (self._signals / f"{self.name}.ready").touch()
        while not (self._signals / f"{self.name}.go").exists():
            time.sleep(0.02)

    def compile(self, what: str, function, *arguments):
        """Calls a function that compiles, as `attempt` does, unless it is too late to."""
        if time.time() > self._compile_until:
            self.emit("skipped", what=what, reason="too late to compile")
            return None
        return self.attempt(what, function, *arguments)

    def attempt(self, what: str, function, *arguments, needs: float = 0.0):
        """Calls a function; an exception, or too little time, becomes a line in the results.

        Args:
          what: is done, for that line.
          function, *arguments: the call.
          needs: seconds without which it is not begun.

        Returns:
          What the function returns; None if there was an error.
        """
        if self.remaining() < needs:
            self.emit("skipped", what=what, reason=f"{self.remaining():.0f} s left, {needs:.0f} s needed")
            return None
        try:
            return function(*arguments)
        except Exception as error:
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            self.emit("error", what=what, error=one_line(error))
            return None


def read(folder) -> list[dict]:
    """The lines of the results in a folder; one that is not whole is left out."""
    found = []
    for line in (pathlib.Path(folder) / RESULTS).read_text().splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def emit(out, kind: str, **fields):
    """Appends a line to the results in a folder."""
    line = json.dumps({"kind": kind, **fields, "time": round(time.time(), 3)}, default=_plain)
    with open(pathlib.Path(out) / RESULTS, "a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(line, flush=True)


def one_line(error: BaseException) -> str:
    """An exception as a short line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:600]


def _plain(value):
    if hasattr(value, "item") and math.prod(getattr(value, "shape", ())) == 1:
        return value.item()
    return str(value)


def main():
    spec = json.loads(sys.argv[1])
    module = importlib.import_module(f"benchmarks.gpu.{spec.pop('module')}")
    context = Context(**spec)
    context.attempt(context.name, module.work, context)
    context.emit("finished")


if __name__ == "__main__":
    main()
