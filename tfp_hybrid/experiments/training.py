"""One training run: from a data set's name to a folder with a model, its metrics and a report."""

import csv
import dataclasses
import json
import os
import pathlib
import platform
import time

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid
from tfp_hybrid import checks, datasets
from tfp_hybrid.experiments import evaluation, outliers, recipes, report
from tfp_hybrid.experiments.progress import CONSOLE, TrainingBar
from tfp_hybrid.experiments.scoring import METRICS, MODEL, REJECTOR
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.hybrid import HybridModel
from tfp_hybrid.pipeline import untuned
from tfp_hybrid.uncertainty import Rejector

HISTORY, REPORT = "history.csv", "report.html"
CHECKPOINT, CONFIG = "checkpoint.keras", "config.json"
KEPT = 0.99  # of held-out rows, by the rejector


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


def train(config: Config, out: os.PathLike, resume: bool = False) -> dict:
    """Trains a hybrid model; writes `model.keras`, `rejector.keras`, `metrics.json`, `history.csv`, `report.html`.

    Everything is loaded and checked before the first step. A checkpoint is kept while training runs; `resume` goes
    on from it, losing at most one epoch.

    Args:
      config: the settings.
      out: folder for the results: new or empty, unless `resume`.
      resume: go on with a run that was interrupted, with the same settings.

    Returns:
      What `metrics.json` holds.

    Raises:
      ValueError: for settings, data or a folder that cannot be used.
      ConnectionError: if the data cannot be downloaded; says what to put where.
      FloatingPointError: if the loss becomes NaN; the last good checkpoint stays.
    """
    started = time.perf_counter()
    out = pathlib.Path(out)
    check_config(config)
    check_folder(out, resume)
    with CONSOLE.status(f"loading {config.dataset}"):
        dataset = datasets.load(config.dataset, data_dir=config.data_dir, seed=config.seed)
        recipe = recipes.recipe_for(dataset)
        config = config.complete(recipe)
        foreign = {name: outliers.load_outliers(name, dataset, config.data_dir, config.seed) for name in config.ood}
    keras.utils.set_random_seed(config.seed)
    data = training_data(dataset, recipe, config)
    if resume:
        _check_same_settings(out, config)
    with CONSOLE.status("building the model"):
        resumed = resume and (out / CHECKPOINT).exists()
        model, history = _resumed(out, config, len(data)) if resumed else (_new_model(dataset, recipe, config), [])
        for name, (x, _) in foreign.items():
            checks.check_inputs(x, model.distribution, f"--ood {name}: x")
    start_folder(out, config)

    checkpoint = Checkpoint(out, history)
    checkpoint.set_model(model)
    checkpoint.save()
    with TrainingBar(len(history)) as training_bar:
        model.fit(
            data,
            validation_data=dataset.validation,
            validation_batch_size=evaluation.BATCH_SIZE,
            initial_epoch=len(history),
            epochs=config.epochs,
            callbacks=[training_bar, checkpoint],
            shuffle=False,  # the data set does it
            verbose=0,
        )
    checkpoint.save()

    test = evaluation.predict(model, *dataset.test, "test rows")
    held_out = evaluation.predict(model, *dataset.validation, "held-out rows")
    outside = {name: evaluation.predict(model, *data, name) for name, data in foreign.items()}
    rejector = Rejector(model).fit_threshold(dataset.validation[0], quantile=KEPT)
    metrics = {
        "config": dataclasses.asdict(config) | {"data": dataset.description},
        "seconds": round(checkpoint.seconds_before + time.perf_counter() - started, 1),
        "parameters": model.count_params(),
        "test": evaluation.test_metrics(model, test, dataset.test[1]),
        "validation": evaluation.test_metrics(model, held_out, dataset.validation[1]),
        "ood": {name: evaluation.ood_metrics(test, answers) for name, answers in outside.items()},
        "feature_names": dataset.feature_names,
        "versions": versions(),
    }
    with CONSOLE.status("writing the report"):
        model.save(out / MODEL)
        rejector.save(out / REJECTOR)
        (out / METRICS).write_text(json.dumps(metrics, indent=1))
        report.write(out / REPORT, model, dataset, metrics, checkpoint.columns(), test, outside)
    (out / CHECKPOINT).unlink()
    (out / CONFIG).unlink()
    return metrics


class Checkpoint(keras.callbacks.Callback):
    """Keeps the model and the history on disk, after an epoch if the last time is over `seconds` ago.

    Files are replaced whole, the model last. A run resumes after the model's last epoch; what the history has beyond
    it, if the run was killed between the two, is dropped.
    """

    def __init__(self, folder, history, seconds=10.0):
        super().__init__()
        self._folder, self._history, self._seconds = folder, history, seconds
        self.seconds_before = float(history[-1]["seconds"]) if history else 0.0
        self._started = self._last = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        now = time.perf_counter()
        row = {"epoch": epoch + 1} | {name: float(value) for name, value in logs.items()}
        self._history.append(row | {"seconds": round(self.seconds_before + now - self._started, 2)})
        if now - self._last > self._seconds:
            self.save()
            self._last = time.perf_counter()

    def save(self):
        """Writes both files now."""
        temporary = self._folder / f"new_{HISTORY}"
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self._history[0] if self._history else ["epoch"])
            writer.writeheader()
            writer.writerows(self._history)
        os.replace(temporary, self._folder / HISTORY)
        temporary = self._folder / f"new_{CHECKPOINT}"
        self.model.save(temporary)
        os.replace(temporary, self._folder / CHECKPOINT)

    def columns(self) -> dict[str, list[float]]:
        """The history by column; accuracy as error."""
        columns = {name: [row[name] for row in self._history] for name in self._history[0]}
        for name in ("accuracy", "val_accuracy"):
            if name in columns:
                columns[name.replace("accuracy", "error")] = [1 - value for value in columns.pop(name)]
        return columns


def check_config(config: Config):
    """Raises ValueError for settings that cannot be used, before anything is loaded."""
    if config.dataset not in recipes.NAMES:
        raise ValueError(f"Unknown data set {config.dataset!r}; wanted one of {', '.join(recipes.NAMES)}.")
    for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; wanted at least {least}.")
    weight, rate = config.generative_weight, config.learning_rate
    if weight is not None and not 0 <= weight < float("inf"):
        raise ValueError(f"--generative-weight is {weight}; wanted lambda >= 0, finite.")
    if rate is not None and not 0 < rate < float("inf"):
        raise ValueError(f"--learning-rate is {rate}; wanted a positive number.")


def check_folder(out: pathlib.Path, resume: bool):
    """Raises ValueError if the folder is not empty (without `resume`), or holds no interrupted run (with it)."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; wanted a folder.")
    if not resume and out.exists() and any(out.iterdir()):
        raise ValueError(f"--out {out} is not empty; wanted a new folder, or --resume to go on with a run in it.")
    if resume and not (out / CONFIG).exists():
        done = " It holds a finished run." if (out / METRICS).exists() else ""
        raise ValueError(f"--out {out} holds no interrupted run to resume.{done}")


def start_folder(out: pathlib.Path, config: Config):
    """Makes the folder and writes the settings into it; ValueError if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / CONFIG).write_text(json.dumps(_settings(config), indent=1))
    except OSError as error:
        raise ValueError(f"--out {out} cannot be written: {error}.") from None


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    return {
        "tfp_hybrid": tfp_hybrid.__version__,
        "tensorflow": tf.__version__,
        "tensorflow_probability": tfp.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {len(tf.config.list_physical_devices('GPU'))} GPUs",
    }


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
    model = HybridModel(flow_distribution(recipe.flow(dataset)), recipes.head_for(dataset), config.generative_weight)
    steps = config.epochs * (len(dataset.train[0]) // config.batch_size)
    model.compile(recipes.optimizer_for(config.learning_rate, steps))
    model.optimizer.build(model.trainable_variables)
    return model


def _resumed(out, config, steps_per_epoch):
    model = keras.models.load_model(out / CHECKPOINT)
    schedule = recipes.schedule(config.learning_rate, config.epochs * steps_per_epoch)
    model.optimizer.learning_rate = schedule
    epochs = int(model.optimizer.iterations) // steps_per_epoch
    with open(out / HISTORY, newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return model, [row | {"epoch": int(row["epoch"])} for row in rows[:epochs]]


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
