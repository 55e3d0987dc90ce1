"""`train_on_table`: trains an estimator on a table from a file."""

import contextlib
import dataclasses
import os
import pathlib
import re
import time
import warnings
from collections.abc import Sequence

import numpy as np

from tfp_hybrid import files, strict_json, uncertainty
from tfp_hybrid.commands import predictions, provenance, table_files, table_report
from tfp_hybrid.commands.fitting import CONFIG, KEPT, Config
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.commands.table_report import table_metrics
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.estimators import HybridClassifier, HybridRegressor, side_columns
from tfp_hybrid.models import checks, side_inputs
from tfp_hybrid.serving.saved import METRICS, MODEL, REJECTOR
from tfp_hybrid.tables import Category, infer_kinds
from tfp_hybrid.tables.targets import CLASSIFICATION, TASKS, Target
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector

TEST = 0.2
"""Fraction of the rows that are held out for the test metrics."""
_FEWEST_ROWS, _ROWS_FOR_IMPORTANCE = 20, 1000
_FILES = (MODEL, REJECTOR, METRICS, table_report.REPORT)


def train_on_table(
    config: Config,
    out: pathlib.Path,
    target: str,
    task: str | None = None,
    categories: Sequence[str] = (),
    groups: Sequence[str] = (),
    offset: str | None = None,
) -> dict:
    """Trains a `HybridClassifier` or `HybridRegressor` on a table; writes the files of a run, except for the history.

    Nothing is written before training is done, so an interrupted run starts from the beginning.

    Args:
      config: The settings; its `dataset` is the path of the table. None stands for the estimator's own choice.
      out: Folder for the results. It must be new or empty.
      target: Name of the column to predict.
      task: "classification" or "regression"; None decides by the target.
      categories: Names of columns of categories that would count as numbers or text.
      groups: Names of columns with the ids of groups, which have random effects.
      offset: Name of the column that is the offset of a regression, or None.

    Returns:
      The content of `metrics.json`.

    Raises:
      ValueError: If the settings, the table or the folder are invalid.
    """
    started = time.perf_counter()
    if task is not None and task not in TASKS:
        raise ValueError(f"--task is {task!r}; wanted one of {', '.join(TASKS)}.")
    config.check_numbers()
    roles = _Roles(target, tuple(categories), tuple(groups), offset)
    with files.locked(out):
        _check_folder(out)
        return _train(config, out, roles, task, started)


def _train(config, out, roles, task, started):
    path = config.dataset
    with CONSOLE.status(f"reading {path}"):
        frame, target, y, reason, kinds = _read(path, roles, task)
    count = f" of {len(target.classes)} classes" if target.classes else ""
    CONSOLE.print(f"{target.task.capitalize()}{count}, because {reason}.", highlight=False, markup=False)
    inside, test = _split(y, target, config.seed)
    with CONSOLE.status(f"training on {len(inside):,} rows"):
        estimator = _fitted(config, frame.iloc[inside], y[inside], target, kinds, roles, path)
    _warn_of_levels(frame, kinds)
    model, columns = estimator.model_, estimator.columns_
    CONSOLE.print(table_report.kinds_table(columns).rich())
    if roles.groups:
        CONSOLE.print(table_report.groups_table(model.head, target.task).rich())
    x = checks.inputs(frame, model, str(path))
    with CONSOLE.status("choosing the threshold"):
        held_out_rows = inside[estimator.held_out_]
        held_out = side_inputs.take(x, held_out_rows), y[held_out_rows]
        rejector = Rejector(model, NegativeLogProb()).fit_threshold(held_out[0], quantile=KEPT)
    dataset = Dataset(
        name=pathlib.Path(path).name,
        task=target.task,
        train=(side_inputs.take(x, inside), y[inside]),
        validation=held_out,
        test=(side_inputs.take(x, test), y[test]),
        feature_names=columns.names,
        description=f"{len(frame):,} rows of {path}, of which {len(test):,} were held out for testing",
    )
    tested = predictions.predict(model, *dataset.test, "test rows", [rejector.score])
    validated = predictions.predict(model, *held_out, "held-out rows", [rejector.score])
    with CONSOLE.status("measuring the importance of columns"):
        few = np.random.default_rng(config.seed).permutation(len(test))[:_ROWS_FOR_IMPORTANCE]
        tested_few = side_inputs.take(x, test[few]), y[test[few]]
        importance = uncertainty.column_importance(model, *tested_few, seed=config.seed)
    threshold = float(rejector.threshold.numpy())
    settings = {
        "dataset": os.fspath(path),
        "generative_weight": float(model.generative_weight),
        "epochs": estimator.n_iter_,
        "batch_size": config.batch_size,
        "learning_rate": estimator.learning_rate,
        "seed": config.seed,
        "data": dataset.description,
    }
    metrics = {
        "config": settings,
        "target": target.name,
        "task": target.task,
        "classes": None if target.classes is None else list(target.classes),
        "columns": columns.table().reset_index().to_dict("records"),
        "groups": {name: part.tolist() for name, part in model.head.variance_components().items()}
        if roles.groups
        else {},
        "offset": roles.offset,
        "seconds": round(time.perf_counter() - started, 1),
        "parameters": model.count_params(),
        "test": table_metrics(model, dataset.test[0], tested, dataset.test[1], threshold),
        "validation": table_metrics(model, held_out[0], validated, held_out[1], threshold),
        "score": rejector.score.title,
        "ood": {},
        "importance": importance.to_dict("index"),
        "feature_names": list(columns.names),
        "versions": provenance.record(),
    }
    with CONSOLE.status("writing the report"):
        history = model.history.history
        values = frame.iloc[test]
        report = table_report.render(model, dataset, metrics, tested, validated, threshold, importance, values, history)
        _write(out, model, rejector, report, metrics)
    return metrics


@dataclasses.dataclass(frozen=True)
class _Roles:
    """The names of the columns that are more than inputs of the density."""

    target: str
    categories: tuple[str, ...]
    groups: tuple[str, ...]
    offset: str | None

    def __post_init__(self):
        known = {self.target: "--target"} | dict.fromkeys(self.categories, "--category")
        for option, name in self.side:
            if name in known:
                raise ValueError(f"{option} {name!r} is given as {known[name]}, too; wanted one of them.")
            known[name] = option

    @property
    def side(self) -> list[tuple[str, str]]:
        """The side inputs, each with its option."""
        return [("--group", name) for name in self.groups] + [("--offset", self.offset)] * (self.offset is not None)

    @property
    def options(self) -> list[tuple[str, str]]:
        """All names, each with its option."""
        return [("--target", self.target), *(("--category", name) for name in self.categories), *self.side]


def _read(path, roles, task):
    """Returns the table without the target, the `Target`, y, the reason for the task, and the kinds of columns."""
    frame = table_files.read_table(path, roles.categories)
    for option, name in roles.options:
        if name not in frame:
            raise ValueError(f"{option} {name!r} is not a column of {path}; wanted one of {list(frame)}.")
    if len(frame) < _FEWEST_ROWS:
        rows = f"{len(frame)} row{'s' * (len(frame) > 1)}"
        raise ValueError(f"{path} has {rows}; wanted at least {_FEWEST_ROWS}, to train and to test.")
    side = [name for _, name in roles.side]
    if frame.shape[1] < 2 + len(side):
        besides = f"the target {roles.target!r}" + f" and {side}" * bool(side)
        raise ValueError(f"{path} has no columns besides {besides}; wanted at least one.")
    target, y, reason = Target.of(frame.pop(roles.target), path, task)
    if roles.offset is not None and target.task == CLASSIFICATION:
        raise ValueError(f"--offset {roles.offset!r} is for a target of numbers, but {roles.target!r} is classes.")
    given = {name: Category() for name in roles.categories if name != roles.target}
    left = frame.drop(columns=[*given, *side])
    table_files.check_stray_text(left, path)
    with _errors_of(path):
        side_columns.checked_groups({name: frame[name].to_numpy() for name in side}, roles.offset)
        kinds = given | (infer_kinds(left, path) if left.shape[1] else {})
    return frame, target, y, reason, kinds


def _split(y, target, seed):
    """Returns the numbers of the rows for training and for testing; every class has its share, and one for training."""
    rng = np.random.default_rng(seed)
    groups = (
        [np.flatnonzero(y == code) for code in np.unique(y)] if target.task == CLASSIFICATION else [np.arange(len(y))]
    )
    test = [rng.permutation(rows)[: round(TEST * len(rows))] for rows in groups]
    test = np.sort(np.concatenate(test))
    if len(test) < 2:  # many classes of one or two rows
        test = np.sort(np.concatenate([rng.permutation(rows)[: len(rows) // 2] for rows in groups]))
    return np.setdiff1d(np.arange(len(y)), test), test


def _fitted(config, frame, y, target, kinds, roles, path):
    make = HybridClassifier if target.task == CLASSIFICATION else HybridRegressor
    given = {"groups": list(roles.groups)} | ({} if roles.offset is None else {"offset": roles.offset})
    given |= {name: getattr(config, name) for name in ("generative_weight", "epochs", "batch_size", "learning_rate")}
    given = {name: value for name, value in given.items() if value is not None}
    with warnings.catch_warnings(record=True) as caught, _errors_of(path):
        warnings.simplefilter("always", UserWarning)
        estimator = make(kinds=kinds, random_state=config.seed, **given).fit(frame, y)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            _warn(warning.message)
    return estimator


def _warn_of_levels(frame, kinds):
    """Warns of columns of categories that differ from row to row, as names and keys do."""
    for name, kind in kinds.items():
        levels = frame[name].nunique() if isinstance(kind, Category) else 0
        if 2 * levels > len(frame):
            _warn(
                f"the column {name!r} has {levels:,} different values in {len(frame):,} rows, so most of new rows are "
                "unseen. Remove it if it only names the rows."
            )


def _warn(text):
    CONSOLE.print(f"Warning: {text}", soft_wrap=True, highlight=False, markup=False)


@contextlib.contextmanager
def _errors_of(path):
    """A context in which errors about an argument `frame`, `X` or `y` name the file in its place."""
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"^(frame|X|y)\b", lambda _: str(path), str(error))) from None


def _check_folder(out):
    """Raises ValueError unless the folder is empty, or has what a run on a table left that was killed as it wrote."""
    names = {path.name for path in out.iterdir() if not files.is_leftover(path)}
    killed = CONFIG in names and METRICS not in names and names <= {CONFIG, *_FILES}
    if killed and "table" in strict_json.read(out / CONFIG):
        _remove(out)
    elif names:
        raise ValueError(f"--out {out} is not empty; wanted a new folder.")


def _write(out, model, rejector, report, metrics):
    """Writes the files, the metrics last; all or, unless the process is killed, none."""
    try:
        files.write(out / CONFIG, strict_json.dumps({"table": metrics["config"]["dataset"]}))  # marks the run
        with files.replacing(out / MODEL) as temporary:
            model.save(temporary)
        with files.replacing(out / REJECTOR) as temporary:
            rejector.save(temporary)
        files.write(out / table_report.REPORT, report)
        files.write(out / METRICS, strict_json.dumps(metrics))
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(out)
        raise
    files.remove(out / CONFIG)


def _remove(out):
    for name in (*_FILES, CONFIG):
        files.remove(out / name)
