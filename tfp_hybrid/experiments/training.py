"""One training run: from a data set's name to a folder with a model, its metrics and a report."""

import dataclasses
import os
import pathlib
import time

from tfp_hybrid import checks, datasets, files, strict_json
from tfp_hybrid.experiments import evaluation, fitting, outliers, provenance, recipes, report
from tfp_hybrid.experiments.fitting import CONFIG, Config
from tfp_hybrid.experiments.progress import CONSOLE
from tfp_hybrid.experiments.scoring import METRICS, MODEL, REJECTOR
from tfp_hybrid.uncertainty import Rejector

REPORT = "report.html"
KEPT = 0.99  # of held-out rows, by the rejector


def train(config: Config, out: os.PathLike, resume: bool = False) -> dict:
    """Trains a hybrid model; writes `model.keras`, `rejector.keras`, `metrics.json`, `history.csv`, `report.html`.

    Everything is loaded and checked before the first step. A checkpoint is kept while training runs: killed at any
    moment, the folder holds a run to resume or a finished one, and a resumed run ends with the figures of one that was
    not interrupted. A kill loses at most one epoch or, of shorter ones, ten seconds of work.

    Args:
      config: the settings.
      out: folder for the results: new or empty, unless `resume`. Locked, so that one run at a time writes into it.
      resume: go on with a run that was interrupted, with the same settings.

    Returns:
      What `metrics.json` holds (where numbers that JSON has not are strings, such as "Infinity").

    Raises:
      ValueError: for settings, data or a folder that cannot be used.
      ConnectionError: if the data cannot be downloaded; says what to put where.
      FloatingPointError: if the loss becomes NaN; the last good epoch is saved.
      KeyboardInterrupt: if it is interrupted; the last epoch is saved.
    """
    started = time.perf_counter()
    out = pathlib.Path(out)
    check_config(config)
    if resume and not out.exists():
        raise ValueError(f"--out {out} does not exist; it holds no interrupted run to resume.")
    with files.locked(out):
        return _train(config, out, resume, started)


def _train(config, out, resume, started):
    check_folder(out, resume)
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

    test = evaluation.predict(model, *dataset.test, "test rows")
    held_out = evaluation.predict(model, *dataset.validation, "held-out rows")
    outside = {name: evaluation.predict(model, *data, name) for name, data in foreign.items()}
    rejector = Rejector(model).fit_threshold(dataset.validation[0], quantile=KEPT)
    metrics = {
        "config": dataclasses.asdict(config) | {"data": dataset.description},
        "seconds": round(run.seconds_before + time.perf_counter() - started, 1),
        "parameters": model.count_params(),
        "test": evaluation.test_metrics(model, test, dataset.test[1]),
        "validation": evaluation.test_metrics(model, held_out, dataset.validation[1]),
        "ood": {name: evaluation.ood_metrics(test, answers) for name, answers in outside.items()},
        "feature_names": dataset.feature_names,
        "versions": provenance.versions(),
    }
    with CONSOLE.status("writing the report"):
        with files.replacing(out / MODEL) as beside:
            model.save(beside)
        with files.replacing(out / REJECTOR) as beside:
            rejector.save(beside)
        report.write(out / REPORT, model, dataset, metrics, run.columns(), test, outside)
        files.write(out / METRICS, strict_json.dumps(metrics))  # the last one: it says that the others are there
    fitting.finish(out)
    return metrics


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
    """Raises ValueError if the folder is not empty (without `resume`), or holds no interrupted run (with it).

    One in which a run was killed before it wrote anything counts as empty, and also as an interrupted run.
    """
    empty = all(map(files.is_leftover, out.iterdir()))
    if not resume and not empty:
        raise ValueError(f"--out {out} is not empty; wanted a new folder, or --resume to go on with a run in it.")
    if resume and not empty and not (out / CONFIG).exists():
        done = " It holds a finished run." if (out / METRICS).exists() else ""
        raise ValueError(f"--out {out} holds no interrupted run to resume.{done}")
