"""`evaluate`: evaluates a trained model on a data set and compares out-of-distribution scores."""

import os
import pathlib
from collections.abc import Sequence

from tfp_hybrid import datasets
from tfp_hybrid.commands import detection_report, predictions, report
from tfp_hybrid.commands.table_files import is_table, read_table, text_columns
from tfp_hybrid.commands.table_report import table_metrics
from tfp_hybrid.datasets import outliers
from tfp_hybrid.models import HybridModel, checks, side_inputs
from tfp_hybrid.serving.saved import load_model, load_rejector
from tfp_hybrid.tables.targets import Target
from tfp_hybrid.uncertainty import Combined, LikelihoodRatio, NegativeLogProb
from tfp_hybrid.uncertainty import pictures as drawing


def evaluate(
    model: str | os.PathLike,
    dataset: str,
    *,
    ood: Sequence[str] = (),
    other: Sequence[str | os.PathLike] = (),
    likelihood_ratio: bool = False,
    pictures: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
) -> dict[str, dict]:
    """Evaluates a trained model on test rows, and how well each score detects out-of-distribution inputs.

    Args:
      model: Folder of a run, or file of a saved model or rejector.
      dataset: Name of the data set, one of `datasets.NAMES`; or for a run on a table, a `.csv` or `.parquet` file with
        the same columns and the target. For such a file, only `pictures` applies of the other arguments.
      ood: Names of out-of-distribution sets; see `datasets.outliers.load_outliers`.
      other: Runs on the same data set with other seeds, for the score WAIC.
      likelihood_ratio: Whether to include the likelihood ratio, which trains a background model for two epochs.
      pictures: Folder for histograms, ROC curves, risk-coverage curves and so on; None draws nothing.
      data_dir: Root folder of TFDS' data, as in `datasets.load`.

    Returns:
      A dict with "test", the metrics of the test rows from `predictions.test_metrics`; "score", the title of the
      rejector's score, or of the default one (None without out-of-distribution sets); "ood", its metrics of each
      out-of-distribution set from `predictions.ood_metrics`; and "scores", the columns of
      `uncertainty.detection_table` for each set and score. For classifiers the latter include "risk95", the error rate
      among the 95 % that are kept of an equal mix of test rows and out-of-distribution inputs. For a table, "test"
      also has "abstains", the fraction of rows on which the rejector abstains, and the last two are empty.

    Raises:
      ValueError: If the model, a data set or the folder is invalid.
      ConnectionError: If the data cannot be downloaded. The message says which files to put where.
    """
    pictures = None if pictures is None else pathlib.Path(pictures)
    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise ValueError(f"--pictures {pictures} is a file; wanted a folder.")
    if is_table(dataset):
        more = {"--ood": ood, "--other": other, "--likelihood-ratio": likelihood_ratio, "--data-dir": data_dir}
        for option, value in more.items():
            if value:
                raise ValueError(f"{option} is for the name of a data set; wanted none with the table {dataset}.")
        return _on_table(model, dataset, pictures)
    loaded, trained = _load(model)
    if loaded.inputs_spec.columns is not None:
        raise ValueError(f"{model} is a run on a table, but {dataset} is a data set; wanted a .csv or .parquet file.")
    seed = trained.get("config", {}).get("seed", 0)
    data = datasets.load(dataset, data_dir=data_dir, seed=seed)
    checks.check_inputs(data.test[0], loaded.distribution)
    checks.check_labels(data.test[1], loaded.head)
    ood_sets = {name: outliers.load_outliers(name, data, data_dir, seed) for name in ood}
    others = [_load(path)[0] for path in other]
    ratio = LikelihoodRatio() if likelihood_ratio else None
    rejector = load_rejector(model, loaded)
    score = None if rejector is None else rejector.score
    test, outside, table = detection_report.measure(loaded, data, ood_sets, others, ratio, score)
    if pictures is not None:
        detection_report.draw(pictures, loaded, data, test, outside, table)
    titles = list(table.index.unique("score"))
    named = [title for title in ((score and score.title), Combined.title, NegativeLogProb.title) if title in titles]
    column = titles.index(named[0]) if named else None
    return {
        "test": predictions.test_metrics(loaded, test, data.test[1]),
        "score": named[0] if named else None,
        "ood": {name: predictions.ood_metrics(test, answers, column) for name, answers in outside.items()},
        "scores": {name: table.loc[name].to_dict("index") for name in ood_sets},
    }


def _load(path) -> tuple[HybridModel, dict]:
    """Returns a model of x alone, and the metrics next to it."""
    loaded, metrics = load_model(path)
    side_inputs.check_none(loaded, f"evaluate, {path}")
    return loaded, metrics


def _on_table(model, path, pictures):
    loaded, trained = load_model(model)
    target = Target.from_metrics(trained)
    if target is None or loaded.inputs_spec.columns is None:
        raise ValueError(f"{model} is not a run on a table, but {path} is one; wanted the name of a data set.")
    frame = read_table(path, text_columns(loaded.inputs_spec.columns, target, loaded.side_inputs))
    if target.name not in frame:
        raise ValueError(f"{path} lacks the column {target.name!r}; wanted the target, to compare with.")
    y = target.read(frame.pop(target.name), path)
    x = checks.inputs(frame, loaded, str(path))
    rejector = load_rejector(model, loaded)
    wanted = [] if rejector is None else [rejector.score]
    predicted = predictions.predict(loaded, x, y, "rows", wanted)
    threshold = None if rejector is None else float(rejector.threshold.numpy())
    if pictures is not None:
        none = side_inputs.take(x, slice(0)), y[:0]
        rows = datasets.Dataset(os.path.basename(path), target.task, none, none, (x, y))
        drawn = {"log_prob_x": drawing.log_prob_histograms({rows.name: predicted.log_prob_x})}
        drawn["reliability"] = report.reliability_picture(loaded, rows, predicted).figure
        for name, figure in drawn.items():
            drawing.save(figure, pictures / f"{name}.png")
    found = table_metrics(loaded, x, predicted, y, threshold)
    return {"test": found, "score": rejector and rejector.score.title, "ood": {}, "scores": {}}
