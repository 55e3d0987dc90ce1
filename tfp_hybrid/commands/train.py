"""One training run: from the name of a data set to a folder with a model, its metrics and a report."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Sequence

from tfp_hybrid import datasets, files, recipes, strict_json
from tfp_hybrid.commands import fitting, predictions, provenance, report
from tfp_hybrid.commands.fitting import Config
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.commands.saved import METRICS, MODEL, REJECTOR
from tfp_hybrid.datasets import outliers
from tfp_hybrid.models import checks
from tfp_hybrid.uncertainty import Rejector

KEPT = 0.99
"""Fraction of held-out rows that the rejector keeps."""


def train(
    dataset: str,
    out: str | os.PathLike,
    *,
    generative_weight: float | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    ood: Sequence[str] | None = None,
    resume: bool = False,
    data_dir: str | os.PathLike | None = None,
) -> dict:
    """Trains a hybrid model; writes `model.keras`, `rejector.keras`, `metrics.json`, `history.csv`, `report.html`.

    Everything is loaded and checked before the first step. A checkpoint is kept during training: killed at any moment,
    the folder holds either a run to resume or a finished one, and a resumed run ends with the figures of an
    uninterrupted one. A kill loses at most one epoch or, if epochs are shorter, ten seconds of work.

    Args:
      dataset: name of the data set, one of `recipes.NAMES`.
      out: folder for the results, new or empty unless `resume`. It is locked, so that one run at a time writes into it.
      generative_weight: lambda, on log p(x) in nats; like the next four, None stands for the recipe's value.
      epochs: passes over the training rows.
      batch_size: rows of a batch.
      learning_rate: peak of the cosine schedule.
      seed: random seed.
      ood: names of out-of-distribution sets to report on; see `datasets.outliers.load_outliers`.
      resume: continue an interrupted run that had the same settings.
      data_dir: root folder of TFDS' data, as in `datasets.load`.

    Returns:
      The content of `metrics.json`, in which infinite numbers and NaN are strings such as "Infinity".

    Raises:
      ValueError: for settings, data or a folder that cannot be used.
      ConnectionError: if the data cannot be downloaded; the message says what to put where.
      FloatingPointError: if the loss becomes NaN; the last good epoch is saved.
      KeyboardInterrupt: if training is interrupted; the last epoch is saved.
    """
    started = time.perf_counter()
    out = pathlib.Path(out)
    config = Config(
        dataset=dataset,
        generative_weight=generative_weight,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        ood=None if ood is None else tuple(ood),
        data_dir=None if data_dir is None else os.fspath(data_dir),
    )
    config.check()
    if resume and not out.exists():
        raise ValueError(f"--out {out} does not exist; it holds no interrupted run to resume.")
    with files.locked(out):
        fitting.check_folder(out, resume)
        return _train(config, out, resume, started)


def _train(config, out, resume, started):
    with CONSOLE.status(f"loading {config.dataset}"):
        dataset = datasets.load(config.dataset, data_dir=config.data_dir, seed=config.seed)
        recipe = recipes.recipe_for(dataset)
        config = config.complete(recipe)
        foreign = {name: outliers.load_outliers(name, dataset, config.data_dir, config.seed) for name in config.ood}
    if (out / METRICS).exists():  # killed in `finish`
        fitting.check_same_settings(out, config)
        fitting.finish(out)
        return strict_json.read(out / METRICS)
    run = fitting.Run(dataset, recipe, config, out, resume)
    model = run.model
    for name, (x, _) in foreign.items():
        checks.check_inputs(x, model.distribution, f"--ood {name}: x")
    run.fit()

    test = predictions.predict(model, *dataset.test, "test rows")
    held_out = predictions.predict(model, *dataset.validation, "held-out rows")
    outside = {name: predictions.predict(model, *data, name) for name, data in foreign.items()}
    rejector = Rejector(model).fit_threshold(dataset.validation[0], quantile=KEPT)
    metrics = {
        "config": dataclasses.asdict(config) | {"data": dataset.description},
        "seconds": round(run.seconds_before + time.perf_counter() - started, 1),
        "parameters": model.count_params(),
        "test": predictions.test_metrics(model, test, dataset.test[1]),
        "validation": predictions.test_metrics(model, held_out, dataset.validation[1]),
        "ood": {name: predictions.ood_metrics(test, answers) for name, answers in outside.items()},
        "feature_names": dataset.feature_names,
        "versions": provenance.record(),
    }
    with CONSOLE.status("writing the report"):
        with files.replacing(out / MODEL) as beside:
            model.save(beside)
        with files.replacing(out / REJECTOR) as beside:
            rejector.save(beside)
        report.write(out / report.REPORT, model, dataset, metrics, run.columns(), test, outside)
        files.write(out / METRICS, strict_json.dumps(metrics))  # the last file: it marks the run as complete
    fitting.finish(out)
    return metrics
