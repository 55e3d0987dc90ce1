"""How well each score tells foreign inputs from test rows, and what rejecting by it is worth: tables and pictures."""

import pathlib

import numpy as np
import pandas as pd

from tfp_hybrid.experiments import evaluation
from tfp_hybrid.uncertainty import all_scores, detection_table, pictures, risk_coverage_curve
from tfp_hybrid.uncertainty.classification import reliability


def measure(model, dataset, foreign: dict, others=(), likelihood_ratio=None):
    """Every score of the test rows and of foreign sets, from one pass over each.

    Args:
      model: a trained `HybridModel`.
      dataset: the in-distribution `Dataset`; its validation rows fit the scores.
      foreign: from a set's name to its inputs and labels (or None).
      others: of `all_scores`.
      likelihood_ratio: None, or a `LikelihoodRatio`, whose background model is trained on the training rows.

    Returns:
      `evaluation.Predictions` of the test rows; of each foreign set, by name; the `detection_table`.
    """
    held_out = dataset.validation[0] if len(dataset.validation[0]) else None
    if likelihood_ratio is not None:
        likelihood_ratio.fit(model, dataset.train[0])
    wanted = all_scores(model, held_out, others, likelihood_ratio)
    test = evaluation.predict(model, *dataset.test, "test rows", wanted)
    outside = {name: evaluation.predict(model, *rows, name, wanted) for name, rows in foreign.items()}
    titles = [score.title for score in wanted]
    tables = {name: pd.DataFrame(rows.scores, columns=titles) for name, rows in outside.items()}
    return test, outside, detection_table(pd.DataFrame(test.scores, columns=titles), tables)


def mixed_risk(table_of_scores: dict[str, tuple[np.ndarray, np.ndarray]], losses):
    """Risk-coverage curves on a half-and-half mix of test rows and foreign inputs, whose labels are always wrong.

    Args:
      table_of_scores: from a score's title to its values for the test rows and for the foreign inputs.
      losses: of the test rows, `(n,)`.

    Returns:
      From a title to its curve.
    """
    curves = {}
    for title, (inside, outside) in table_of_scores.items():
        rows = min(len(inside), len(outside))
        mix = np.r_[inside[:rows], outside[:rows]]
        curves[title] = risk_coverage_curve(mix, np.r_[losses[:rows], np.ones(rows)])
    return curves


def draw(folder: pathlib.Path, model, dataset, test, outside, table):
    """Writes the pictures: what `measure` returned, and the data it was given."""
    folder.mkdir(parents=True, exist_ok=True)
    log_probs = {f"{dataset.name} (test)": test.log_prob_x}
    log_probs |= {name: answers.log_prob_x for name, answers in outside.items()}
    density = {name: -answers.log_prob_x for name, answers in outside.items()}
    drawn = {"log_prob_x": pictures.log_prob_histograms(log_probs)}
    if outside:
        drawn["roc"] = pictures.roc_curves(-test.log_prob_x, density)
        drawn["precision_recall"] = pictures.precision_recall_curves(-test.log_prob_x, density)
    if model.head.classifies and test.mean.ndim == 2:
        drawn["reliability"] = pictures.reliability_diagram({"test rows": reliability(test.mean, dataset.test[1])})
        wrong = (evaluation.labels(test.mean) != dataset.test[1]).astype(float)
        titles = list(table.index.unique("score"))
        for name, answers in outside.items():
            columns = {t: (test.scores[:, i], answers.scores[:, i]) for i, t in enumerate(titles)}
            risk = f"errors among those kept of {dataset.name} and {name}"
            drawn[f"risk_coverage_{name}"] = pictures.risk_coverage_curves(mixed_risk(columns, wrong), risk)
    if dataset.feature_names is None:
        images, levels = dataset.test[0], dataset.quantization_levels
        drawn["extremes"] = pictures.extremes(images, test.log_prob_x, levels)
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")
