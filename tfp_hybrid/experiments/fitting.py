"""The training of one model: batches, checkpoints after each epoch, and going on after an interruption."""

import csv
import dataclasses
import json
import os
import pathlib
import time

import keras
import tensorflow as tf

from tfp_hybrid.experiments import evaluation, recipes
from tfp_hybrid.experiments.progress import CONSOLE, TrainingBar
from tfp_hybrid.pipeline import untuned

HISTORY, CHECKPOINT, CONFIG = "history.csv", "checkpoint.keras", "config.json"


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

    Made, it has checked everything and holds the model, new or from the checkpoint; nothing has been written.

    Args:
      dataset: the `Dataset`; its training rows are trained on, its validation rows measured after each epoch.
      recipe: what is trained, and how.
      config: the settings, complete.
      out: folder for the checkpoint, the history and, until `finish`, the settings.
      resume: go on from the checkpoint, if there is one.

    Attributes:
      model: the `HybridModel`.
      seconds_before: of training before the interruption; 0 for a new run.

    Raises:
      ValueError: for settings that do not fit the data, or, if `resume`, are not those of the interrupted run.
    """

    def __init__(self, dataset, recipe, config, out, resume=False):
        self._dataset, self._config, self._out = dataset, config, pathlib.Path(out)
        keras.utils.set_random_seed(config.seed)
        self._data = training_data(dataset, recipe, config)
        if resume:
            _check_same_settings(self._out, config)
        with CONSOLE.status("building the model"):
            resumed = resume and (self._out / CHECKPOINT).exists()
            if resumed:
                self.model, history = _resumed(self._out, config, len(self._data))
            else:
                self.model, history = _new_model(dataset, recipe, config), []
        self._checkpoint = Checkpoint(self._out, history)
        self.seconds_before = self._checkpoint.seconds_before

    def fit(self):
        """Trains up to the last epoch, with a progress bar, and keeps a checkpoint on the way."""
        _start_folder(self._out, self._config)
        history = self._checkpoint.history
        self._checkpoint.set_model(self.model)
        self._checkpoint.save()
        with TrainingBar(len(history)) as training_bar:
            self.model.fit(
                self._data,
                validation_data=self._dataset.validation,
                validation_batch_size=evaluation.BATCH_SIZE,
                initial_epoch=len(history),
                epochs=self._config.epochs,
                callbacks=[training_bar, self._checkpoint],
                shuffle=False,  # the data set does it
                verbose=0,
            )
        self._checkpoint.save()

    @property
    def seconds(self) -> float:
        """Of training, those before an interruption included."""
        return self._checkpoint.history[-1]["seconds"]

    def columns(self) -> dict[str, list[float]]:
        """The history by column; accuracy as error."""
        history = self._checkpoint.history
        columns = {name: [row[name] for row in history] for name in history[0]}
        for name in ("accuracy", "val_accuracy"):
            if name in columns:
                columns[name.replace("accuracy", "error")] = [1 - value for value in columns.pop(name)]
        return columns

    def finish(self):
        """Removes what an interrupted run would go on from."""
        (self._out / CHECKPOINT).unlink()
        (self._out / CONFIG).unlink()


class Checkpoint(keras.callbacks.Callback):
    """Keeps the model and the history on disk, after an epoch if the last time is over `seconds` ago.

    Files are replaced whole, the model last. A run resumes after the model's last epoch; what the history has beyond
    it, if the run was killed between the two, is dropped.
    """

    def __init__(self, folder, history, seconds=10.0):
        super().__init__()
        self._folder, self.history, self._seconds = folder, history, seconds
        self.seconds_before = float(history[-1]["seconds"]) if history else 0.0
        self._started = self._last = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        row = {"epoch": epoch + 1} | {name: float(value) for name, value in logs.items()}
        self.history.append(row | {"seconds": round(self.seconds_before + now - self._started, 2)})
        if now - self._last > self._seconds:
            self.save()
            self._last = time.perf_counter()

    def save(self):
        """Writes both files now."""
        temporary = self._folder / f"new_{HISTORY}"
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self.history[0] if self.history else ["epoch"])
            writer.writeheader()
            writer.writerows(self.history)
        os.replace(temporary, self._folder / HISTORY)
        temporary = self._folder / f"new_{CHECKPOINT}"
        self.model.save(temporary)
        os.replace(temporary, self._folder / CHECKPOINT)


def _start_folder(out: pathlib.Path, config: Config):
    """Makes the folder and writes the settings into it; ValueError if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"new_{CONFIG}").write_text(json.dumps(_settings(config), indent=1))
        os.replace(out / f"new_{CONFIG}", out / CONFIG)
    except OSError as error:
        raise ValueError(f"--out {out} cannot be written: {error}.") from None


def seconds_of(folder: pathlib.Path) -> float:
    """Of training, by the history of a finished run."""
    return _read_history(folder)[-1]["seconds"]


def _read_history(folder):
    with open(folder / HISTORY, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _settings(config):
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _check_same_settings(out, config):
    """All but the learning rate, which may be lowered after a run that diverged."""
    before, now = json.loads((out / CONFIG).read_text()), _settings(config)
    changed = [
        f"{name} was {before.get(name)}, is {value}"
        for name, value in now.items()
        if before.get(name) != value and name != "learning_rate"
    ]
    if changed:
        raise ValueError(f"--resume wants the settings of the run in {out}; {'; '.join(changed)}.")


def _new_model(dataset, recipe, config):
    model = recipe.model(dataset, config.generative_weight)
    steps = config.epochs * (len(dataset.train[0]) // config.batch_size)
    model.compile(recipes.optimizer_for(config.learning_rate, steps, recipe.clipnorm))
    model.optimizer.build(model.trainable_variables)
    return model


def _resumed(out, config, steps_per_epoch):
    model = keras.models.load_model(out / CHECKPOINT)
    schedule = recipes.schedule(config.learning_rate, config.epochs * steps_per_epoch)
    model.optimizer.learning_rate = schedule
    epochs = int(model.optimizer.iterations) // steps_per_epoch
    return model, [row | {"epoch": int(row["epoch"])} for row in _read_history(out)[:epochs]]


def training_data(dataset, recipe, config) -> tf.data.Dataset:
    """Shuffled, augmented batches of the training rows; call it after the seed is set."""
    x, y = dataset.train
    if len(x) < config.batch_size:
        raise ValueError(f"--batch-size is {config.batch_size}; {dataset.name} has {len(x)} training rows.")
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=config.seed)
    data = data.batch(config.batch_size, drop_remainder=True)
    if recipe.augment is not None:
        data = data.map(lambda x, y: (recipe.augment(x), y))
    return untuned(data.prefetch(2))
