"""`Run`: resumable training of one model on one data set."""

import dataclasses
import json
import os
import pathlib

import keras

from tfp_hybrid import arguments, datasets, files, recipes, strict_json, workers
from tfp_hybrid.commands import distribution, predictions
from tfp_hybrid.commands.checkpoint import CHECKPOINT, Checkpoint, fit, steps_of_epoch
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.models import labels
from tfp_hybrid.serving.saved import METRICS

CONFIG = "config.json"
KEPT = 0.98
"""Fraction of the held-out rows on which the rejector of a run does not abstain."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run; None stands for the recipe's value.

    Attributes:
      dataset: Name of the data set.
      generative_weight: lambda, the weight of log p(x) in nats.
      epochs: Number of epochs.
      batch_size: Batch size.
      learning_rate: Peak learning rate of the cosine schedule.
      seed: Random seed.
      ood: Names of the out-of-distribution sets.
      data_dir: Root folder of TFDS' data.
      labels: How many training rows keep their label; None for all.
    """

    dataset: str
    generative_weight: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    ood: tuple[str, ...] | None = None
    data_dir: str | None = None
    labels: int | None = None

    def check(self):
        """Raises ValueError for invalid settings, before anything is loaded."""
        if self.dataset not in recipes.NAMES:
            raise ValueError(f"The data set {self.dataset!r} is unknown; wanted one of {', '.join(recipes.NAMES)}.")
        self.check_numbers()

    def load(self) -> tuple[datasets.Dataset, recipes.Recipe]:
        """Loads the data set, hides labels of it, and returns it with its recipe."""
        dataset = datasets.load(self.dataset, data_dir=self.data_dir, seed=self.seed)
        if self.labels is None:
            return dataset, recipes.recipe_for(dataset)
        try:
            dataset = datasets.hide_labels(dataset, self.labels, self.seed)
        except ValueError as error:
            raise ValueError(f"--labels: {error}") from None
        return dataset, recipes.few_labels(recipes.recipe_for(dataset))

    def check_numbers(self):
        """Raises ValueError for invalid numbers among the settings."""
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("labels", 1)):
            value = getattr(self, name)
            if value is not None:
                arguments.check_count(value, f"--{name.replace('_', '-')}", least)
        weight, rate = self.generative_weight, self.learning_rate
        if weight is not None and not 0 <= weight < float("inf"):
            raise ValueError(f"--generative-weight is {weight}; wanted a finite number, at least 0.")
        if rate is not None and not 0 < rate < float("inf"):
            raise ValueError(f"--learning-rate is {rate}; wanted a finite positive number.")

    def complete(self, recipe: recipes.Recipe) -> "Config":
        """Returns these settings with the recipe's values in place of None."""
        values = dataclasses.asdict(self)
        for name in ("generative_weight", "epochs", "batch_size", "learning_rate"):
            values[name] = getattr(recipe, name) if values[name] is None else values[name]
        values["ood"] = tuple(recipe.outliers if self.ood is None else self.ood)
        return Config(**values)


class Run:
    """Trains a model of a data set, with checkpoints in a folder.

    The constructor validates everything and builds or restores the model; it writes nothing. A resumed run ends with
    exactly the same weights and history as an uninterrupted one.

    Args:
      dataset: The `Dataset`. The model is trained on its training rows and validated on its validation rows.
      recipe: Recipe of the model and its training.
      config: Settings without None, from `Config.complete`.
      out: Folder for the checkpoint, the history and, until `finish`, the settings. The caller must lock it.
      resume: Whether to continue the interrupted run in the folder. If that run has not saved a checkpoint, training
        starts from a new model.

    Attributes:
      model: The `HybridModel`.
      seconds_before: Training time in seconds before the interruption; 0 for a new run.

    Raises:
      ValueError: If the settings do not fit the data or, with `resume`, differ from those of the interrupted run.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        recipe: recipes.Recipe,
        config: Config,
        out: str | os.PathLike,
        resume: bool = False,
    ):
        self._dataset, self._config, self._out = dataset, config, pathlib.Path(out)
        _check_batch_size(dataset, config)
        if resume:
            check_same_settings(self._out, config)
        keras.utils.set_random_seed(config.seed)
        with CONSOLE.status("building the model"):
            self.model = _new_model(dataset, recipe, config)
        self._augment, self._checkpoint = recipe.augment, Checkpoint(self._out)
        self._quota = _quota(dataset, config)
        self.seconds_before = self._checkpoint.seconds_before

    def fit(self):
        """Trains the model for the remaining epochs, with a progress bar and checkpoints."""
        if workers.is_chief(self.model.distribute_strategy):
            files.write(self._out / CONFIG, json.dumps(_settings(self._config), indent=1))
        fit(
            self.model,
            self._dataset.train,
            self._config.batch_size,
            self._config.seed,
            self._config.epochs,
            self._checkpoint,
            self._augment,
            self._quota,
            validation_data=self._dataset.validation,
            validation_batch_size=predictions.BATCH_SIZE,
        )

    @property
    def seconds(self) -> float:
        """Training time in seconds, including time before an interruption."""
        return self._checkpoint.history[-1]["seconds"]

    def columns(self) -> dict[str, list[float]]:
        """Returns the columns of the history, with accuracy converted to error."""
        history = self._checkpoint.history
        return predictions.with_errors({name: [row[name] for row in history] for name in history[0]})


def finish(out: pathlib.Path):
    """Removes the checkpoint and then the settings, whose presence marks a run as unfinished."""
    files.remove(out / CHECKPOINT)
    files.remove(out / CONFIG)


def _settings(config):
    return json.loads(json.dumps(dataclasses.asdict(config)))


def check_folder(out: pathlib.Path, resume: bool):
    """Raises ValueError unless the folder is empty or, with `resume`, has an interrupted run.

    The folder of a run that was killed before it wrote anything is accepted in both cases.
    """
    empty = all(map(files.is_leftover, out.iterdir()))
    if not resume and not empty:
        raise ValueError(f"--out {out} is not empty; wanted a new folder, or --resume to continue the run in it.")
    if resume and not empty and not (out / CONFIG).exists():
        done = " The run in it is finished." if (out / METRICS).exists() else ""
        raise ValueError(f"--out {out} has no interrupted run to resume.{done}")


def check_same_settings(out: pathlib.Path, config: Config):
    """Raises ValueError if the interrupted run had other settings, except for the learning rate.

    The learning rate may be lowered to resume a run that diverged.
    """
    if not (out / CONFIG).exists():  # killed before it wrote anything
        return
    before, now = strict_json.read(out / CONFIG), _settings(config)
    changed = [
        f"{name} was {before.get(name)} and is now {value}"
        for name, value in now.items()
        if before.get(name) != value and name != "learning_rate"
    ]
    if changed:
        raise ValueError(f"--resume needs the same settings as the run in {out}, but {'; '.join(changed)}.")


def _check_batch_size(dataset, config):
    if dataset.missing_label is not None and config.batch_size < 2:
        raise ValueError("--batch-size is 1; wanted at least 2 with --labels, half of them with a label.")
    rows = len(dataset.train[0])
    if rows < config.batch_size:
        raise ValueError(
            f"--batch-size is {config.batch_size}, but {dataset.name} has {rows} training rows; wanted at most as many."
        )


def _new_model(dataset, recipe, config):
    """An untrained model; of all workers together, if there are several."""
    steps = steps_of_epoch(len(dataset.train[0]), config.batch_size, _quota(dataset, config))
    with distribution.strategy().scope():
        model = recipe.model(dataset, config.generative_weight)
        model.compile(recipes.optimizer_for(config.learning_rate, config.epochs * steps, recipe.clipnorm))
        model.optimizer.build(model.trainable_variables)
    return model


def _quota(dataset, config):
    """Which rows have a label and how many of them a batch has, half of it; None if all have one."""
    if dataset.missing_label is None:
        return None
    return labels.are_known(dataset.train[1]), max(1, config.batch_size // 2)
