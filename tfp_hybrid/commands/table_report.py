"""The report of a run on a table, a self-contained HTML file."""

import numpy as np
import pandas as pd

from tfp_hybrid import uncertainty
from tfp_hybrid.commands import predictions, report
from tfp_hybrid.commands.predictions import Predictions
from tfp_hybrid.commands.tables import Table
from tfp_hybrid.datasets import Dataset
from tfp_hybrid.heads import MixedEffects
from tfp_hybrid.models import HybridModel, side_inputs
from tfp_hybrid.tables import Columns
from tfp_hybrid.tables.targets import REGRESSION
from tfp_hybrid.uncertainty import pictures

REPORT = report.REPORT
_FOREIGN, _DRAWN = 8, 4  # rows, the most foreign ones
_MOST_NAMES, _LEAST_SHARE = 3, 0.25
_REFERENCE_ROWS = 1000


def kinds_table(columns: Columns) -> Table:
    """Returns the table of the kinds of columns, for a terminal."""
    rows = [
        (name, "", [row["kind"], row["dtype"], report.percent(row["holes"]) if row["holes"] else "-"])
        for name, row in columns.table().iterrows()
    ]
    return Table("columns", ("kind", "dtype", "holes"), rows, heading="column")


def groups_table(head: MixedEffects, task: str) -> Table:
    """Returns the table of the groups of a head, for a terminal."""
    unit = "the target" if task == REGRESSION else "logits"
    rows = [
        (name, "", [f"{len(head.groups[name]):,}", f"{np.sqrt(np.diag(covariance).mean()):.4g}"])
        for name, covariance in head.variance_components().items()
    ]
    return Table("groups", ("levels", f"standard deviation of effects on {unit}"), rows, heading="column")


def table_metrics(model: HybridModel, x, predicted: Predictions, y, threshold: float | None) -> dict[str, float]:
    """Returns `predictions.test_metrics`, and "abstains", the fraction of rows on which a rejector abstains.

    Args:
      model: The model.
      x: The rows.
      predicted: Its predictions, whose only score is the rejector's.
      y: The labels.
      threshold: The threshold of the rejector; None if there is none.
    """
    metrics = predictions.test_metrics(model, predicted, y)
    if threshold is not None:
        is_new = model.inputs_spec.columns.has_new(side_inputs.main(x))
        metrics["abstains"] = float(np.mean(~(predicted.scores[:, 0] <= threshold) | is_new))
    return metrics


def because(surprise: pd.DataFrame) -> list[list[str]]:
    """Returns up to three names of columns for each row of `uncertainty.explain`, those that make it foreign.

    A column counts if its part is positive and at least a quarter of the largest one.
    """
    found = []
    for _, row in surprise.iterrows():
        clearest = row.sort_values(ascending=False, kind="stable")[:_MOST_NAMES]
        clearest = clearest[(clearest > 0) & (clearest >= _LEAST_SHARE * clearest.iloc[0])]
        found.append(list(clearest.index))
    return found


def render(
    model: HybridModel,
    dataset: Dataset,
    metrics: dict,
    test: Predictions,
    held_out: Predictions,
    threshold: float,
    importance: pd.DataFrame,
    values: pd.DataFrame,
    history: dict[str, list[float]],
) -> str:
    """Returns the report.

    Args:
      model: The trained `HybridModel`, whose inputs are `Columns`.
      dataset: The rows as the model takes them.
      metrics: Content of `metrics.json`.
      test: `Predictions` for the test rows, whose only score is -log p(x).
      held_out: The same for the validation rows.
      threshold: The score above which the rejector abstains.
      importance: The table from `uncertainty.column_importance`.
      values: The test rows as they are in the file, indexed by their numbers there.
      history: Columns of the history from `fit`.
    """
    scores = {"test rows": test.scores[:, 0], "held-out training rows": held_out.scores[:, 0]}
    order = np.argsort(-scores["test rows"], kind="stable")[:_FOREIGN]
    train, tested = dataset.train[0], dataset.test[0]
    chosen = np.random.default_rng(0).permutation(side_inputs.count(train))[:_REFERENCE_ROWS]
    surprise = uncertainty.explain(model, side_inputs.take(tested, order), side_inputs.take(train, chosen))
    values = values.iloc[order]
    surprise.index = values.index
    curves = {"epoch": list(range(1, len(history["loss"]) + 1))} | predictions.with_errors(history)
    drawn = [
        report.Picture(
            "How unusual the rows are",
            "-log p(x) of test rows and of the training rows that were held out to stop training.",
            pictures.score_histograms(scores, threshold),
        ),
        report.reliability_picture(model, dataset, test),
        report.Picture(
            "Importance of the columns",
            "What is lost if the values of a column are permuted among the test rows: by p(y|x), how much the column "
            "tells about the target; by log p(x), how much it has to do with the other columns.",
            pictures.column_importance(importance),
        ),
        report.Picture(
            "Learning curves",
            "Training curves are means over each epoch. Validation curves are for held-out rows.",
            pictures.learning_curves(curves),
        ),
        report.Picture(
            "Why rows are foreign",
            "The most foreign test rows: how many nats more likely each would be with the value of a random training "
            "row in one column.",
            pictures.explanation(surprise[:_DRAWN], values[:_DRAWN]),
        ),
    ]
    is_new = model.inputs_spec.columns.has_new(side_inputs.main(tested))
    foreign = [
        {
            "row": int(values.index[k]),
            "log_prob_x": test.log_prob_x[i],
            "abstains": test.scores[i, 0] > threshold or is_new[i],
            "because": _in_words(surprise.iloc[k], names, values.iloc[k]),
        }
        for k, (i, names) in enumerate(zip(order, because(surprise), strict=True))
    ]
    trust = report.trusted("test rows", dataset, test, threshold, dataset.test[1])
    shown = {"pictures": drawn, "trust": trust, "threshold": threshold, "foreign": foreign, "name": dataset.name}
    return report.render("table_report.html.jinja", metrics, **shown)


def _in_words(surprise, names, values):
    parts = [f"{name} = {_shortened(values[name])} ({surprise[name]:+.1f})" for name in names]
    return ", ".join(parts) or "no column alone"


def _shortened(value):
    if pd.isna(value):
        return "a hole"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 30 else f"{text[:27]}..."
