"""Evaluating a trained model on a data set, and comparing out-of-distribution scores."""

import os
import pathlib
from collections.abc import Sequence

from tfp_hybrid import datasets
from tfp_hybrid.commands import detection_report, predictions
from tfp_hybrid.commands.saved import load_model
from tfp_hybrid.datasets import outliers
from tfp_hybrid.models import checks
from tfp_hybrid.uncertainty import LikelihoodRatio


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
    """Measures a trained model on the test rows of a data set, and how well each score detects other inputs.

    Args:
      model: the folder of a run, or a file with a saved model or rejector.
      dataset: name of the data set, one of `datasets.NAMES`.
      ood: names of out-of-distribution sets; see `datasets.outliers.load_outliers`.
      other: runs on the same data set with other seeds, for the score WAIC.
      likelihood_ratio: whether to include this score, which trains a background model for two epochs.
      pictures: folder for histograms, ROC curves, risk-coverage curves, ...; None draws nothing.
      data_dir: root folder of TFDS' data, as in `datasets.load`.

    Returns:
      "test": metrics of the test rows, as `predictions.test_metrics`; "ood": for each set, as
      `predictions.ood_metrics`; "scores": for each set and score, the columns of `uncertainty.detection_table`, for
      classifiers with "risk95", the fraction of errors among the 95 % that are kept of a half-and-half mix.

    Raises:
      ValueError: for models, data sets and folders that cannot be used.
      ConnectionError: if the data cannot be downloaded; the message says what to put where.
    """
    pictures = None if pictures is None else pathlib.Path(pictures)
    if pictures is not None and pictures.exists() and not pictures.is_dir():
        raise ValueError(f"--pictures {pictures} is a file; wanted a folder.")
    loaded, trained = load_model(model)
    seed = trained.get("config", {}).get("seed", 0)
    data = datasets.load(dataset, data_dir=data_dir, seed=seed)
    checks.check_inputs(data.test[0], loaded.distribution)
    checks.check_labels(data.test[1], loaded.head)
    foreign = {name: outliers.load_outliers(name, data, data_dir, seed) for name in ood}
    others = [load_model(path)[0] for path in other]
    ratio = LikelihoodRatio() if likelihood_ratio else None
    test, outside, table = detection_report.measure(loaded, data, foreign, others, ratio)
    if pictures is not None:
        detection_report.draw(pictures, loaded, data, test, outside, table)
    return {
        "test": predictions.test_metrics(loaded, test, data.test[1]),
        "ood": {name: predictions.ood_metrics(test, answers) for name, answers in outside.items()},
        "scores": {name: table.loc[name].to_dict("index") for name in foreign},
    }
