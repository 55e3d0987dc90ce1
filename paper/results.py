"""Results: small JSON files, each of which records what was measured, and how."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable

import keras
import numpy as np

from tfp_hybrid import files, strict_json
from tfp_hybrid.commands import checkpoint, fitting, provenance
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.commands.saved import MODEL
from tfp_hybrid.uncertainty import pictures

SETTINGS = "settings.json"


@dataclasses.dataclass(frozen=True)
class Result:
    """What was measured of one model.

    Attributes:
      name: name of the model; the file is `<name>.json`.
      command: the experiment's command line.
      settings: everything that determines the outcome, including the seed, except for the package's own code.
      metrics: the outcome.
      seconds: the time it took, including training before an interruption.
      versions: versions of the libraries, and the machine.
    """

    name: str
    command: str
    settings: dict
    metrics: dict
    seconds: float
    versions: dict


@dataclasses.dataclass(frozen=True)
class Job:
    """How to obtain a result.

    Attributes:
      settings: everything that determines the outcome, except for the package's own code.
      measure: a function without arguments that returns the metrics.
      needs: names of jobs whose models this one starts from; they run first.
    """

    settings: dict
    measure: Callable[[], dict]
    needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where an experiment keeps its results, and what it is called with.

    Attributes:
      folder: folder of the results; models and checkpoints are below it, in `models`.
      command: the experiment's command line, for the record.
      quick: whether this is a small trial run.
    """

    folder: pathlib.Path
    command: str
    quick: bool = False

    def obtain(self, jobs: dict[str, Job], only=()):
        """Runs the jobs that have no result yet, one after the other; each result is written at once.

        Args:
          jobs: jobs by name.
          only: names of the jobs to run; all if empty.

        Raises:
          ValueError: for an unknown name; for results or models that are there, but of other settings; for a model that
            is needed and missing, though its result is there. Nothing is measured then.
        """
        unknown = [name for name in only if name not in jobs]
        if unknown:
            raise ValueError(f"--only {unknown[0]!r} is unknown; wanted one of {', '.join(jobs)}.")
        trial = {"quick": True} if self.quick else {}
        settings = {name: json.loads(json.dumps(job.settings | trial)) for name, job in jobs.items()}
        for name in jobs:
            _check_same(self.folder / f"{name}.json", settings[name], lambda path: load(path).settings)
        wanted = [name for name in jobs if name in only or not only]
        missing = [name for name in wanted if not (self.folder / f"{name}.json").exists()]
        for name in missing:
            _check_same(self.model_folder(name) / SETTINGS, settings[name], strict_json.read)
            for needed in jobs[name].needs:
                if needed not in missing and not (self.model_folder(needed) / MODEL).exists():
                    raise ValueError(f"{name} starts from {self.model_folder(needed) / MODEL}, which is not there.")
        for number, name in enumerate(missing, 1):
            with files.locked(self.model_folder(name)):
                if not (self.folder / f"{name}.json").exists():  # nor measured by another process in the meantime
                    CONSOLE.print(f"{number} of {len(missing)}: {name}", highlight=False)
                    self._measure(name, jobs[name], settings[name])

    def _measure(self, name, job, settings):
        files.write(self.model_folder(name) / SETTINGS, json.dumps(settings, indent=1))
        seconds, started = checkpoint.seconds_of(self.model_folder(name)), time.perf_counter()
        metrics = job.measure()
        seconds = round(seconds + time.perf_counter() - started, 1)
        result = Result(name, self.command, settings, metrics, seconds, provenance.record())
        files.write(self.folder / f"{name}.json", json.dumps(dataclasses.asdict(result), indent=1))

    def model_folder(self, name: str) -> pathlib.Path:
        """Where the model of that name is kept, and its checkpoint while it is trained."""
        return self.folder / "models" / name

    def load_model(self, name: str):
        """The trained model of that name."""
        return keras.models.load_model(self.model_folder(name) / MODEL)

    def train(self, name: str, dataset, recipe, config):
        """A model of the recipe, trained, from its checkpoint if there is one; and the seconds its training took."""
        folder = self.model_folder(name)
        if (folder / MODEL).exists():  # killed before its result was written
            fitting.finish(folder)
            return self.load_model(name), checkpoint.seconds_of(folder)
        run = fitting.Run(dataset, recipe, config, folder, resume=(folder / fitting.CONFIG).exists())
        run.fit()
        with files.replacing(folder / MODEL) as beside:
            run.model.save(beside)
        fitting.finish(folder)
        return run.model, run.seconds


def _check_same(path, settings, read):
    """Raises ValueError if the file is there and has other settings."""
    if path.exists() and (kept := read(path)) != settings:
        changed = [key for key in settings | kept if settings.get(key) != kept.get(key)]
        place = path.parent if path.name == SETTINGS else path
        raise ValueError(f"{place} has other settings ({', '.join(changed)}); remove it, or take another --out.")


def histograms(log_probs: dict[str, np.ndarray], lowest: float = -np.inf) -> dict:
    """What is kept of log p(x) of several sets, by name, the in-distribution one first.

    Args:
      log_probs: of each set, in nats.
      lowest: lower values count in the bin of this one.

    Returns:
      "edges" of common bins; and for each set "histogram", the fraction of it in each bin, and "mean", in nats.
    """
    edges, fractions = pictures.bin_log_probs({name: np.maximum(v, lowest) for name, v in log_probs.items()})
    means = {name: float(values.mean()) for name, values in log_probs.items()}
    return {"edges": edges.tolist()} | {
        name: {"histogram": fractions[name].tolist(), "mean": means[name]} for name in log_probs
    }


def load(path: pathlib.Path) -> Result:
    """Reads one result; ValueError if the file is damaged."""
    kept = strict_json.read(path)
    kinds = {field.name: field.type for field in dataclasses.fields(Result)}
    if kept.keys() != kinds.keys() or not all(isinstance(kept[name], kind) for name, kind in kinds.items()):
        raise ValueError(f"{path} is no result: wanted {', '.join(kinds)}; remove it.")
    if not kept["metrics"]:
        raise ValueError(f"{path} is no result: it has no metrics; remove it.")
    return Result(**kept)


def load_all(folder: pathlib.Path) -> dict[str, Result]:
    """All results in a folder, by name."""
    return {path.stem: load(path) for path in sorted(folder.glob("[!.]*.json"))}
