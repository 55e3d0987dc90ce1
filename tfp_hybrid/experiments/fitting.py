"""The training of one model on one data set, which goes on after an interruption."""

import dataclasses
import json
import pathlib

import keras
import tensorflow as tf

from tfp_hybrid import files, strict_json
from tfp_hybrid.experiments import evaluation, recipes
from tfp_hybrid.experiments.checkpoint import CHECKPOINT, Checkpoint, epoch_batches, fit, resumed
from tfp_hybrid.experiments.progress import CONSOLE

CONFIG = "config.json"


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a run; None stands for the data set's recipe.

    Attributes:
      dataset: name of the data set.
      generative_weight: lambda, on log p(x) in nats.
      epochs, batch_size, learning_rate: of training.
      seed: of every random number.
      ood: names of the out-of-distribution sets.
      data_dir: where data sets lie.
    """

    dataset: str
    generative_weight: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    ood: tuple[str, ...] | None = None
    data_dir: str | None = None

    def complete(self, recipe: recipes.Recipe) -> "Config":
        """With the recipe's values in place of None."""
        values = dataclasses.asdict(self)
        for name in ("generative_weight", "epochs", "batch_size", "learning_rate"):
            values[name] = getattr(recipe, name) if values[name] is None else values[name]
        values["ood"] = tuple(recipe.outliers if self.ood is None else self.ood)
        return Config(**values)


class Run:
    """A model of a data set, and the folder where its checkpoint is while it is trained.

    The constructor validates everything and builds or restores the model; it writes nothing. A run that was interrupted
    and resumed ends with the weights and the history, to the last digit, of one that was not.

    Args:
      dataset: the `Dataset`; its training rows are trained on, its validation rows measured after each epoch.
      recipe: what is trained, and how.
      config: the settings, complete.
      out: folder for the checkpoint, the history and, until `finish`, the settings; locked by the caller.
      resume: go on with what an interrupted run has left there; with a new model if it has not come to a checkpoint.

    Attributes:
      model: the `HybridModel`.
      seconds_before: of training before the interruption; 0 for a new run.

    Raises:
      ValueError: for settings that do not fit the data, or, if `resume`, are not those of the interrupted run.
    """

    def __init__(self, dataset, recipe, config, out, resume=False):
        self._dataset, self._config, self._out = dataset, config, pathlib.Path(out)
        self._steps = _steps_per_epoch(dataset, config)
        if resume:
            check_same_settings(self._out, config)
        keras.utils.set_random_seed(config.seed)
        with CONSOLE.status("building the model"):
            if resume and (self._out / CHECKPOINT).exists():
                self.model, history, self.seconds_before = resumed(self._out, self._steps)
                self.model.optimizer.learning_rate = recipes.schedule(config.learning_rate, config.epochs * self._steps)
            else:
                self.model, history, self.seconds_before = _new_model(dataset, recipe, config, self._steps), [], 0.0
        self._data = training_data(dataset, recipe, config, len(history))
        self._checkpoint = Checkpoint(self._out, history, self.seconds_before)

    def fit(self):
        """Trains up to the last epoch, with a progress bar, and keeps a checkpoint on the way."""
        files.write(self._out / CONFIG, json.dumps(_settings(self._config), indent=1))
        fit(
            self.model,
            self._data,
            self._steps,
            self._config.epochs,
            self._checkpoint,
            validation_data=self._dataset.validation,
            validation_batch_size=evaluation.BATCH_SIZE,
        )

    @property
    def seconds(self) -> float:
        """Training time in seconds, including time before an interruption."""
        return self._checkpoint.history[-1]["seconds"]

    def columns(self) -> dict[str, list[float]]:
        """The history by column; accuracy as error."""
        history = self._checkpoint.history
        columns = {name: [row[name] for row in history] for name in history[0]}
        for name in ("accuracy", "val_accuracy"):
            if name in columns:
                columns[name.replace("accuracy", "error")] = [1 - value for value in columns.pop(name)]
        return columns


def finish(out: pathlib.Path):
    """Removes what an interrupted run resumes from, the settings last: while they are there, it is not finished."""
    files.remove(out / CHECKPOINT)
    files.remove(out / CONFIG)


def _settings(config):
    return json.loads(json.dumps(dataclasses.asdict(config)))


def check_same_settings(out: pathlib.Path, config: Config):
    """Raises ValueError if an interrupted run had others; the learning rate may be lowered after one that diverged."""
    if not (out / CONFIG).exists():  # it was killed before it wrote anything
        return
    before, now = strict_json.read(out / CONFIG), _settings(config)
    changed = [
        f"{name} was {before.get(name)}, is {value}"
        for name, value in now.items()
        if before.get(name) != value and name != "learning_rate"
    ]
    if changed:
        raise ValueError(f"--resume wants the settings of the run in {out}; {'; '.join(changed)}.")


def _steps_per_epoch(dataset, config):
    rows = len(dataset.train[0])
    if rows < config.batch_size:
        raise ValueError(f"--batch-size is {config.batch_size}; {dataset.name} has {rows} training rows.")
    return rows // config.batch_size


def _new_model(dataset, recipe, config, steps):
    model = recipe.model(dataset, config.generative_weight)
    model.compile(recipes.optimizer_for(config.learning_rate, config.epochs * steps, recipe.clipnorm))
    model.optimizer.build(model.trainable_variables)
    return model


def training_data(dataset, recipe, config, first_epoch: int = 0) -> tf.data.Dataset:
    """Shuffled, augmented batches of the training rows, from this epoch to the last."""
    epochs = range(first_epoch, config.epochs)
    return epoch_batches(dataset.train, config.batch_size, config.seed, epochs, recipe.augment)
