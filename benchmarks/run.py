"""Shared parts of the commands: their options, the progress bar and the JSON file."""

import contextlib
import dataclasses
import datetime
import json
import pathlib
import sys

import rich.console
import rich.progress

from benchmarks.machine import machine, versions

CONSOLE = rich.console.Console(width=None if sys.stdout.isatty() else 120)
ERRORS = rich.console.Console(stderr=True)


@dataclasses.dataclass(frozen=True)
class Run:
    """The options of a command.

    Args:
      name: Name of the command and of its files.
      out: Folder for the results.
      rounds: Number of rounds after the warm-up.
      seconds: Seconds per turn.
      seed: Random seed of the data.
      quick: Whether to make a trial run with tiny models.
      machine: The machine and its load at the start.
    """

    name: str
    out: pathlib.Path
    rounds: int
    seconds: float
    seed: int
    quick: bool
    machine: dict = dataclasses.field(default_factory=machine)

    def __post_init__(self):
        self.out.mkdir(parents=True, exist_ok=True)

    def write(self, **results):
        """Writes the results, and how they were measured, to `<out>/<name>.json`."""
        content = {
            "command": " ".join(["python -m benchmarks", *sys.argv[1:]]),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": self.machine,
            "versions": versions(),
            "seed": self.seed,
            "rounds": self.rounds,
            "seconds_per_turn": self.seconds,
        }
        (self.out / f"{self.name}.json").write_text(json.dumps(content | results, indent=1) + "\n")

    @property
    def picture(self) -> pathlib.Path:
        """Path of the command's picture."""
        return self.out / f"{self.name}.png"


@contextlib.contextmanager
def progress(total: int):
    """Shows a progress bar on the standard error stream.

    Args:
      total: Total number of steps.

    Yields:
      A function `advance(description, steps)` to call after each step, with the description of the next step.
    """
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn())
    with rich.progress.Progress(*columns, console=ERRORS) as bar:
        task = bar.add_task("starting", total=total)

        def advance(description=None, steps=1):
            bar.update(task, advance=steps, description=description)

        yield advance
