"""Results: small JSON files, each of which says what was measured, and how."""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable

import numpy as np

from tfp_hybrid.experiments import fitting, provenance
from tfp_hybrid.experiments.progress import CONSOLE
from tfp_hybrid.experiments.scoring import MODEL
from tfp_hybrid.uncertainty import pictures


@dataclasses.dataclass(frozen=True)
class Result:
    """What was measured of one model.

    Attributes:
      name: of the model; the file is `<name>.json`.
      command: that measured it.
      settings: all that sets the outcome, the seed included.
      metrics: the outcome.
      seconds: that it took, in this process; training before an interruption not included.
      versions: of the libraries, and the machine.
    """

    name: str
    command: str
    settings: dict
    metrics: dict
    seconds: float
    versions: dict


@dataclasses.dataclass(frozen=True)
class Job:
    """A result to be had.

    Attributes:
      settings: all that sets the outcome.
      measure: a function without arguments that returns the metrics.
    """

    settings: dict
    measure: Callable[[], dict]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an experiment keeps its results, and what it is called with.

    Attributes:
      folder: for results; models and checkpoints lie below it, in `models`.
      command: the command line, for the record.
      quick: whether this is a small trial run.
    """

    folder: pathlib.Path
    command: str
    quick: bool = False

    def obtain(self, jobs: dict[str, Job], only=()):
        """Measures what has no result yet, one after the other; each result is written as soon as it is there.

        Args:
          jobs: by name.
          only: names of some of them; all if empty.

        Raises:
          ValueError: for an unknown name, or a result that is there, but of other settings. Nothing is measured then.
        """
        unknown = [name for name in only if name not in jobs]
        if unknown:
            raise ValueError(f"--only {unknown[0]!r} is unknown; wanted one of {', '.join(jobs)}.")
        missing = {}
        for name in only or jobs:
            path, settings = self.folder / f"{name}.json", json.loads(json.dumps(jobs[name].settings))
            if not path.exists():
                missing[name] = settings
            elif (kept := load(path).settings) != settings:
                changed = [key for key in settings | kept if settings.get(key) != kept.get(key)]
                raise ValueError(f"{path} has other settings ({', '.join(changed)}); remove it, or take another --out.")
        for number, (name, settings) in enumerate(missing.items(), 1):
            CONSOLE.print(f"{number} of {len(missing)}: {name}", highlight=False)
            started = time.perf_counter()
            metrics = jobs[name].measure()
            seconds = round(time.perf_counter() - started, 1)
            result = Result(name, self.command, settings, metrics, seconds, provenance.versions())
            write(self.folder / f"{name}.json", json.dumps(dataclasses.asdict(result), indent=1))
            for file in (fitting.CHECKPOINT, fitting.CONFIG):
                (self.folder / "models" / name / file).unlink(missing_ok=True)

    def train(self, name: str, dataset, recipe, config):
        """A model of the recipe, trained, from its checkpoint if there is one; and the seconds its training took."""
        folder = self.folder / "models" / name
        run = fitting.Run(dataset, recipe, config, folder, resume=(folder / fitting.CONFIG).exists())
        run.fit()
        run.model.save(folder / MODEL)
        return run.model, run.seconds


def histograms(log_probs: dict[str, np.ndarray]) -> dict:
    """What is kept of log p(x) of several sets, by name, the in-distribution one first.

    Returns:
      "edges" of common bins; and for each set "histogram", the fraction of it in each bin, and "mean", in nats, of
      those where it is finite.
    """
    edges, fractions = pictures.bin_log_probs(log_probs)
    means = {name: float(values[np.isfinite(values)].mean()) for name, values in log_probs.items()}
    return {"edges": edges.tolist()} | {
        name: {"histogram": fractions[name].tolist(), "mean": means[name]} for name in log_probs
    }


def load(path: pathlib.Path) -> Result:
    """Reads one result; ValueError if the file is damaged."""
    try:
        return Result(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no result: {error}; remove it.") from None


def load_all(folder: pathlib.Path) -> dict[str, Result]:
    """All results in a folder, by name."""
    return {path.stem: load(path) for path in sorted(folder.glob("*.json"))}


def write(path: pathlib.Path, text: str):
    """Writes a file as a whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"new_{path.name}")
    temporary.write_text(text)
    os.replace(temporary, path)
