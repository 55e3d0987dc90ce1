"""Results: small JSON files that record what was measured, and how."""

import dataclasses
import json
import pathlib
import time
from collections.abc import Callable, Sequence

import keras
import numpy as np

from tfp_hybrid import datasets, files, recipes, strict_json
from tfp_hybrid.commands import checkpoint, fitting, provenance
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.serving.saved import MODEL
from tfp_hybrid.uncertainty import pictures

SETTINGS = "settings.json"


@dataclasses.dataclass(frozen=True)
class Result:
    """The measurements of one model.

    Attributes:
      name: Name of the model; the file is `<name>.json`.
      command: Command line of the experiment.
      settings: Everything that determines the metrics, including the seed, except for the package's own code.
      metrics: The measurements.
      seconds: Time in seconds, including training before an interruption.
      versions: Versions of the libraries, and the machine.
    """

    name: str
    command: str
    settings: dict
    metrics: dict
    seconds: float
    versions: dict


@dataclasses.dataclass(frozen=True)
class Job:
    """A measurement that gives a result.

    Attributes:
      settings: Everything that determines the metrics, except for the package's own code.
      measure: A function without arguments that returns the metrics.
      needs: Names of the jobs whose models this job uses.
    """

    settings: dict
    measure: Callable[[], dict]
    needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Place:
    """The folder of an experiment's results, and the command line that measures them.

    Attributes:
      folder: Folder of the results. Models and checkpoints are in its subfolder `models`.
      command: Command line of the experiment, which is saved with the results.
      quick: Whether this is a trial run with tiny models.
    """

    folder: pathlib.Path
    command: str
    quick: bool = False

    def obtain(self, jobs: dict[str, Job], only: Sequence[str] = ()):
        """Runs the jobs that have no result yet, in order; each result is written as soon as it is available.

        Args:
          jobs: Jobs by name. The jobs that others need come first.
          only: Names of the jobs to run; all jobs if empty.

        Raises:
          ValueError: If a name is unknown, an existing result or model has other settings, or the model of a job that
            is needed is missing although its result exists. This is checked before any job runs.
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
                    raise ValueError(
                        f"{name} starts from {self.model_folder(needed) / MODEL}, which does not exist. Run {needed} "
                        "first, after removing its result if there is one."
                    )
        for number, name in enumerate(missing, 1):
            with files.locked(self.model_folder(name)):
                if not (self.folder / f"{name}.json").exists():  # another process may have measured it in the meantime
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
        """Returns the folder of the model of that name, and of its checkpoint during training."""
        return self.folder / "models" / name

    def load_model(self, name: str) -> keras.Model:
        """Loads the trained model of that name."""
        return keras.models.load_model(self.model_folder(name) / MODEL)

    def train(
        self, name: str, dataset: datasets.Dataset, recipe: recipes.Recipe, config: fitting.Config
    ) -> tuple[keras.Model, float]:
        """Trains a model, or resumes its training from a checkpoint, or loads it if it is already trained.

        Args:
          name: Name of the model.
          dataset: The data set.
          recipe: Recipe of the model.
          config: Settings without None, from `Config.complete`.

        Returns:
          The trained model, and its training time in seconds.
        """
        folder = self.model_folder(name)
        if (folder / MODEL).exists():  # killed before its result was written
            fitting.finish(folder)
            return self.load_model(name), checkpoint.seconds_of(folder)
        run = fitting.Run(dataset, recipe, config, folder, resume=(folder / fitting.CONFIG).exists())
        run.fit()
        with files.replacing(folder / MODEL) as temporary:
            run.model.save(temporary)
        fitting.finish(folder)
        return run.model, run.seconds


def _check_same(path, settings, read):
    """Raises ValueError if the file exists and has other settings."""
    if path.exists() and (kept := read(path)) != settings:
        changed = [key for key in settings | kept if settings.get(key) != kept.get(key)]
        place = path.parent if path.name == SETTINGS else path
        raise ValueError(f"{place} has other settings ({', '.join(changed)}). Remove it, or use another --out.")


def histograms(log_probs: dict[str, np.ndarray], lowest: float = -np.inf) -> dict:
    """Computes histograms of log p(x) with common bins.

    Args:
      log_probs: log p(x) in nats of several sets, by name. The in-distribution set is first.
      lowest: Lower bound; lower values are counted at this value.

    Returns:
      A dict with "edges", the edges of the bins; and for each set a dict of "histogram", the fraction of the set in
      each bin, and "mean", the mean in nats.
    """
    edges, fractions = pictures.bin_log_probs({name: np.maximum(v, lowest) for name, v in log_probs.items()})
    means = {name: float(values.mean()) for name, values in log_probs.items()}
    return {"edges": edges.tolist()} | {
        name: {"histogram": fractions[name].tolist(), "mean": means[name]} for name in log_probs
    }


def load(path: pathlib.Path) -> Result:
    """Reads one result; raises ValueError if the file is damaged."""
    kept = strict_json.read(path)
    kinds = {field.name: field.type for field in dataclasses.fields(Result)}
    if kept.keys() != kinds.keys() or not all(isinstance(kept[name], kind) for name, kind in kinds.items()):
        raise ValueError(f"{path} is not a result; wanted {', '.join(kinds)}. Remove it.")
    if not kept["metrics"]:
        raise ValueError(f"{path} is not a result, because it has no metrics. Remove it.")
    return Result(**kept)


def load_all(folder: pathlib.Path) -> dict[str, Result]:
    """Reads all results in a folder, by name."""
    return {path.stem: load(path) for path in sorted(folder.glob("[!.]*.json"))}
