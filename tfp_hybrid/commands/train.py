"""`train`: trains a model on a data set, and writes the model, its metrics and a report."""

import dataclasses
import os
import pathlib
import time
from collections.abc import Sequence

from tfp_hybrid import files, strict_json, workers
from tfp_hybrid.commands import distribution, fitting, predictions, provenance, report, table_files
from tfp_hybrid.commands.fitting import KEPT, Config
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.commands.table_training import train_on_table
from tfp_hybrid.datasets import outliers
from tfp_hybrid.models import checks
from tfp_hybrid.serving.saved import METRICS, MODEL, REJECTOR
from tfp_hybrid.uncertainty import Rejector


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
    target: str | None = None,
    task: str | None = None,
    category: Sequence[str] = (),
    group: Sequence[str] = (),
    offset: str | None = None,
    labels: int | None = None,
) -> dict:
    """Trains a hybrid model; writes `model.keras`, `rejector.keras`, `metrics.json`, `history.csv`, `report.html`.

    Everything is loaded and checked before the first step. The process can be killed at any moment: the folder then has
    either a run that can be resumed or a finished one, and a resumed run gives the same results as an uninterrupted
    one. A kill loses at most `checkpoint.SAVE_FREQ` steps; SIGTERM and Ctrl-C save first.

    If TF_CONFIG names a cluster, this process is one of its workers, which train one model together. The chief alone
    evaluates it and writes files.

    Args:
      dataset: Name of the data set, one of `recipes.NAMES`; or a `.csv` or `.parquet` file, for which a
        `HybridClassifier` or `HybridRegressor` is trained. Such a run has no history and cannot be resumed.
      out: Folder for the results. It must be new or empty, unless `resume`. It is locked, so that only one run at a
        time writes into it.
      generative_weight: lambda, the weight of log p(x) in nats. None uses the recipe's value, as for `epochs`,
        `batch_size`, `learning_rate` and `ood`.
      epochs: Number of epochs.
      batch_size: Batch size.
      learning_rate: Peak learning rate of the cosine schedule.
      seed: Random seed.
      ood: Names of the out-of-distribution sets in the report; see `datasets.outliers.load_outliers`.
      resume: Whether to continue an interrupted run, which must have had the same settings.
      data_dir: Root folder of TFDS' data, as in `datasets.load`.
      target: Name of the column of a file to predict.
      task: "classification" or "regression", for a file; None decides by the target, as `targets.Target.of`.
      category: Names of columns of a file that hold categories, where they look like numbers.
      group: Names of columns of a file with ids of groups, integers or strings, that have random effects and no
        density; see `HybridClassifier`.
      offset: Name of a column of a file that is a known part of the mean of a target of numbers, or None.
      labels: How many training rows of a data set keep their label, for experiments; None for all. The recipe is then
        `recipes.few_labels`.

    Returns:
      The content of `metrics.json`; {} for a worker that is not the chief. In the file, infinite numbers and NaN are
      strings such as "Infinity".

    Raises:
      ValueError: If the settings, the data or the folder are invalid.
      ConnectionError: If the data cannot be downloaded. The message says which files to put where.
      FloatingPointError: If the loss becomes NaN. The last good epoch is saved.
      KeyboardInterrupt: If training is interrupted. The last step is saved.
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
        labels=labels,
    )
    if table_files.is_table(dataset):
        given = {"--resume": resume, "--ood": ood, "--data-dir": data_dir, "--labels": labels}
        _refuse(given, f"is for the name of a data set; wanted none with the table {dataset}")
        if target is None:
            raise ValueError(f"--target is missing; wanted the name of the column of {dataset} to predict.")
        return train_on_table(config, out, target, task, tuple(category), tuple(group), offset)
    given = {"--target": target, "--task": task, "--category": category, "--group": group, "--offset": offset}
    _refuse(given, f"is for a .csv or .parquet file; wanted none with the data set {dataset!r}")
    config.check()
    if not workers.is_chief(distribution.strategy()):
        return _help(config, out)
    if resume and not out.exists():
        raise ValueError(f"--out {out} does not exist, so it has no interrupted run to resume.")
    with files.locked(out):
        fitting.check_folder(out, resume)
        return _train(config, out, resume, started)


def _refuse(given, reason):
    for option, value in given.items():
        if value:
            raise ValueError(f"{option} {reason}.")


def _help(config, out):
    """Trains the model as a worker that is not the chief."""
    dataset, recipe = config.load()
    fitting.Run(dataset, recipe, config.complete(recipe), out).fit()
    return {}


def _train(config, out, resume, started):
    with CONSOLE.status(f"loading {config.dataset}"):
        dataset, recipe = config.load()
        config = config.complete(recipe)
        ood_sets = {name: outliers.load_outliers(name, dataset, config.data_dir, config.seed) for name in config.ood}
    if (out / METRICS).exists():  # killed in `finish`
        fitting.check_same_settings(out, config)
        fitting.finish(out)
        return strict_json.read(out / METRICS)
    run = fitting.Run(dataset, recipe, config, out, resume)
    model = run.model
    for name, (x, _) in ood_sets.items():
        checks.check_inputs(x, model.distribution, f"--ood {name}: x")
    run.fit()

    with CONSOLE.status("choosing the threshold"):
        rejector = Rejector(model).fit_threshold(dataset.validation[0], quantile=KEPT)
    wanted = [rejector.score]
    test = predictions.predict(model, *dataset.test, "test rows", wanted)
    held_out = predictions.predict(model, *dataset.validation, "held-out rows")
    outside = {name: predictions.predict(model, *data, name, wanted) for name, data in ood_sets.items()}
    metrics = {
        "config": dataclasses.asdict(config) | {"data": dataset.description},
        "seconds": round(run.seconds_before + time.perf_counter() - started, 1),
        "parameters": model.count_params(),
        "test": predictions.test_metrics(model, test, dataset.test[1]),
        "validation": predictions.test_metrics(model, held_out, dataset.validation[1]),
        "score": rejector.score.title,
        "ood": {name: predictions.ood_metrics(test, answers, column=0) for name, answers in outside.items()},
        "feature_names": dataset.feature_names,
        "versions": provenance.record(),
    }
    with CONSOLE.status("writing the report"):
        with files.replacing(out / MODEL) as temporary:
            model.save(temporary)
        with files.replacing(out / REJECTOR) as temporary:
            rejector.save(temporary)
        inputs = {name: x for name, (x, _) in ood_sets.items()}
        threshold = float(rejector.threshold.numpy())
        report.write(out / report.REPORT, model, dataset, metrics, run.columns(), test, outside, inputs, threshold)
        files.write(out / METRICS, strict_json.dumps(metrics))  # last, because it marks the run as complete
    fitting.finish(out)
    return metrics
