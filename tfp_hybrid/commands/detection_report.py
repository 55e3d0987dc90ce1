"""Measures how well each score detects out-of-distribution inputs and how much rejection by it helps."""

import contextlib
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfp_hybrid.commands import predictions
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.models import HybridModel
from tfp_hybrid.uncertainty import LikelihoodRatio, Score, all_scores, detection_table, pictures, risk_coverage_curve
from tfp_hybrid.uncertainty.classification import reliability

KEPT = 0.95


def measure(
    model: HybridModel,
    dataset: Dataset,
    ood_sets: dict,
    others: Sequence[HybridModel] = (),
    likelihood_ratio: LikelihoodRatio | None = None,
    score: Score | None = None,
) -> tuple[predictions.Predictions, dict[str, predictions.Predictions], pd.DataFrame]:
    """Evaluates every score on the test rows and on out-of-distribution sets, in one pass over each.

    Args:
      model: A trained `HybridModel`.
      dataset: The in-distribution `Dataset`. The scores are fitted on its validation rows.
      ood_sets: Inputs and labels (or None) of each out-of-distribution set, by name.
      others: Models for the score WAIC, as in `all_scores`.
      likelihood_ratio: A `LikelihoodRatio` to include, whose background model is trained on the training rows; or None.
      score: The score of a rejector, to be used as it was fitted; or None.

    Returns:
      The `Predictions` for the test rows, those for each out-of-distribution set by name, and the `detection_table`.
      For classifiers, the table has a further column "risk95": the error rate among the 95 % that are kept of the
      mixes of `mixed_risks`.
    """
    held_out = dataset.validation[0] if len(dataset.validation[0]) else None
    if likelihood_ratio is not None:
        with contextlib.redirect_stdout(sys.stderr):  # its progress bar
            likelihood_ratio.fit(model, dataset.train[0])
    wanted = all_scores(model, held_out, others, likelihood_ratio)
    if score is not None:
        wanted = [one for one in wanted if one.title != score.title] + [score]
    test = predictions.predict(model, *dataset.test, "test rows", wanted)
    outside = {name: predictions.predict(model, *rows, name, wanted) for name, rows in ood_sets.items()}
    titles = [score.title for score in wanted]
    tables = {name: pd.DataFrame(rows.scores, columns=titles) for name, rows in outside.items()}
    table = detection_table(pd.DataFrame(test.scores, columns=titles), tables)
    for name, curves in mixed_risks(model, dataset, test, outside, titles).items():
        for title, curve in curves.items():
            table.loc[(name, title), "risk95"] = curve.risk[int(KEPT * len(curve.risk)) - 1]
    return test, outside, table


def mixed_risks(
    model: HybridModel,
    dataset: Dataset,
    test: predictions.Predictions,
    outside: dict[str, predictions.Predictions],
    titles: list[str],
) -> dict[str, dict]:
    """Computes risk-coverage curves of a classifier on equal mixes of test rows and out-of-distribution inputs.

    Every prediction for an out-of-distribution input counts as an error.

    Args:
      model: A trained `HybridModel`.
      dataset: The in-distribution `Dataset`.
      test: Predictions for the test rows, from `measure`.
      outside: Predictions for the out-of-distribution sets by name, from `measure`.
      titles: Titles of the scores in the columns of `Predictions.scores`.

    Returns:
      The curves by the name of the set and the title of the score; empty for regression.
    """
    if not model.head.classifies or test.mean.ndim != 2:
        return {}
    wrong = (predictions.labels(test.mean) != dataset.test[1]).astype(float)
    risks = {}
    for name, answers in outside.items():
        rows = min(len(wrong), len(answers.scores))
        losses = np.r_[wrong[:rows], np.ones(rows)]
        scores = np.r_[test.scores[:rows], answers.scores[:rows]]
        risks[name] = {title: risk_coverage_curve(scores[:, i], losses) for i, title in enumerate(titles)}
    return risks


def draw(
    folder: pathlib.Path,
    model: HybridModel,
    dataset: Dataset,
    test: predictions.Predictions,
    outside: dict[str, predictions.Predictions],
    table: pd.DataFrame,
):
    """Writes pictures of the results of `measure` into a folder.

    Args:
      folder: Folder for the pictures.
      model: The trained `HybridModel`.
      dataset: The in-distribution `Dataset`.
      test: Predictions for the test rows, from `measure`.
      outside: Predictions for the out-of-distribution sets by name, from `measure`.
      table: The table from `measure`.
    """
    log_probs = {f"{dataset.name} (test)": test.log_prob_x}
    log_probs |= {name: answers.log_prob_x for name, answers in outside.items()}
    density = {name: -answers.log_prob_x for name, answers in outside.items()}
    drawn = {"log_prob_x": pictures.log_prob_histograms(log_probs)}
    if outside:
        drawn["roc"] = pictures.roc_curves(-test.log_prob_x, density)
        drawn["precision_recall"] = pictures.precision_recall_curves(-test.log_prob_x, density)
    if model.head.classifies and test.mean.ndim == 2:
        drawn["reliability"] = pictures.reliability_diagram({"test rows": reliability(test.mean, dataset.test[1])})
    titles = list(table.index.unique("score"))
    for name, curves in mixed_risks(model, dataset, test, outside, titles).items():
        figure = pictures.risk_coverage_curves(curves, "errors among those kept")
        figure.axes[0].set_title(f"{dataset.name} and {name}, half and half")
        drawn[f"risk_coverage_{name}"] = figure
    if dataset.feature_names is None:
        images, levels = dataset.test[0], dataset.quantization_levels
        drawn["extremes"] = pictures.extremes(images, test.log_prob_x, levels)
    for name, figure in drawn.items():
        pictures.save(figure, folder / f"{name}.png")
