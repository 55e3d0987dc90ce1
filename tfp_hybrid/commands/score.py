"""`score`: predicts the rows of a file, with their uncertainty and whether to abstain."""

import os
import pathlib

import numpy as np
import pandas as pd

from tfp_hybrid import files, uncertainty
from tfp_hybrid.commands import predictions
from tfp_hybrid.commands.inputs import read_inputs
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.commands.saved import load_model, load_rejector
from tfp_hybrid.commands.table_report import because
from tfp_hybrid.commands.targets import Target
from tfp_hybrid.models import HybridModel
from tfp_hybrid.uncertainty import Aleatoric, Epistemic, NegativeLogProb, Rejector

_REFERENCE_ROWS = 200  # drawn from the model


def score(
    model: str | os.PathLike,
    file: str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    abstain_below: float | None = None,
    explain: bool = False,
) -> pd.DataFrame:
    """Predicts each row of a file, and decides whether to abstain.

    Args:
      model: Folder of a run, or file of a saved model or rejector.
      file: Inputs, in a `.npz` file with an array x, a `.csv` or a `.parquet` file.
      out: A `.csv` or `.parquet` file to which the table is written; None writes nothing.
      abstain_below: Percentile of the held-out rows, 0 to 100, below which to abstain; None uses the rejector's
        threshold.
      explain: Whether to say which columns make a row foreign, for the rows on which it abstains. They are compared
        with rows that are drawn from the model.

    Returns:
      The table from `prediction_table`. For a run on a table, the predictions are the classes as they were there. With
      `explain`, it also has "because", up to three names of columns.

    Raises:
      ValueError: If a file cannot be read or written, or the model cannot take the inputs.
    """
    out = None if out is None else pathlib.Path(out)
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--out {out} ends in {out.suffix!r}; wanted .csv or .parquet.")
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"--out {out} cannot be written, because the folder {out.parent} does not exist.")
    if abstain_below is not None and not 0 <= abstain_below <= 100:
        raise ValueError(f"--abstain-below is {abstain_below}; wanted a percentile between 0 and 100.")
    loaded, metrics = load_model(model)
    rejector = load_rejector(model, loaded)
    if rejector is None and abstain_below is not None:
        raise ValueError(f"--abstain-below needs a rejector, but {model} has none; wanted the folder of a run.")
    if rejector is None and explain:
        raise ValueError(f"--explain needs a rejector, but {model} has none; wanted the folder of a run.")
    target = Target.from_metrics(metrics)
    x = read_inputs(file, loaded, metrics.get("feature_names"), target)
    table = prediction_table(loaded, x, rejector, abstain_below)
    if target is not None and target.classes is not None:
        table["prediction"] = pd.Series(list(target.classes)).iloc[table["prediction"]].to_numpy()
    if explain:
        table["because"] = _because(loaded, x, table["abstain"].to_numpy())
    if out is not None:
        with files.replacing(out) as temporary:
            table.to_csv(temporary, index=False) if out.suffix == ".csv" else table.to_parquet(temporary, index=False)
    return table


def prediction_table(
    model: HybridModel, x: np.ndarray, rejector: Rejector | None, abstain_below: float | None = None
) -> pd.DataFrame:
    """Returns a table with one row for each input.

    Args:
      model: The model.
      x: Inputs, `(n, *event_shape)`.
      rejector: The rejector of this model, or None.
      abstain_below: Percentile below which to abstain; None uses the rejector's threshold.

    Returns:
      A table with the columns "prediction" (the class, or E[y|x]), "probability" (that of the predicted class; only for
      classes), "uncertainty" (for classes, the entropy of p(y|x) in nats; for numbers, the predictive standard
      deviation) and "log_prob_x" (nats). With a posterior of the head, it also has "epistemic" and "aleatoric", as
      `uncertainty.decompose`. With a rejector, it also has "score" (unless it is -log p(x)), "percentile"
      (percentage of the held-out inputs with a higher score, 0 to 100) and "abstain", which is also true for rows of
      tables with a level, or a hole in a column, that no training row had.
    """
    parts = [Epistemic(), Aleatoric()] if model.head.is_integrated else []
    answers = predictions.predict(model, x, wanted=parts + ([] if rejector is None else [rejector.score]))
    if answers.stddev is None:
        table = {
            "prediction": answers.mean.argmax(-1),
            "probability": answers.mean.max(-1),
            "uncertainty": answers.entropy,
        }
    else:
        table = _columns("prediction", answers.mean) | _columns("uncertainty", answers.stddev)
    for name, column in zip(("epistemic", "aleatoric")[: len(parts)], answers.scores.T, strict=False):
        table[name] = column
    table["log_prob_x"] = answers.log_prob_x
    if rejector is not None:
        scores = answers.scores[:, -1]
        if not isinstance(rejector.score, NegativeLogProb):
            table["score"] = scores
        percentile = rejector.percentile(scores)
        table["percentile"] = np.round(percentile, 2)
        table["abstain"] = (
            scores > float(rejector.threshold.numpy()) if abstain_below is None else percentile < abstain_below
        )
        columns = model.inputs_spec.columns
        if columns is not None:
            table["abstain"] |= columns.has_new(x)
    return pd.DataFrame(table)


def _because(model, x, abstain):
    """Returns the names of the columns that make each row foreign, for the rows on which a rejector abstains."""
    found = np.full(len(x), "", object)
    if abstain.any():
        with CONSOLE.status("explaining"):
            usual = model.sample(_REFERENCE_ROWS, seed=0)["x"]
            surprise = uncertainty.explain(model, x[abstain], np.asarray(usual))
        found[abstain] = [", ".join(names) for names in because(surprise)]
    return found


def _columns(name, values):
    """Returns one column, or one for each entry of a vector response."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{i}": column for i, column in enumerate(values.T)}
