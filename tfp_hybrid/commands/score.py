"""Scoring the rows of a file: predictions, their uncertainty, and whether to trust them."""

import os
import pathlib

import numpy as np
import pandas as pd

from tfp_hybrid import files
from tfp_hybrid.commands import predictions
from tfp_hybrid.commands.inputs import read_inputs
from tfp_hybrid.commands.saved import load_model, load_rejector
from tfp_hybrid.models import HybridModel
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector


def score(
    model: str | os.PathLike,
    file: str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    abstain_below: float | None = None,
) -> pd.DataFrame:
    """Predicts each row of a file, and says whether to trust the prediction.

    Args:
      model: the folder of a run, or a file with a saved model or rejector.
      file: inputs, `.npz` with an array x, `.csv` or `.parquet`.
      out: a `.csv` or `.parquet` file to write the table to; None writes nothing.
      abstain_below: percentile, 0 to 100, of the held-out scores below which to abstain; None for the rejector's own
        threshold.

    Returns:
      The table described at `prediction_table`.

    Raises:
      ValueError: for files that cannot be read or written, and inputs that the model cannot take.
    """
    out = None if out is None else pathlib.Path(out)
    if out is not None and out.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--out {out} ends in {out.suffix!r}; wanted .csv or .parquet.")
    if out is not None and not out.parent.is_dir():
        raise ValueError(f"--out {out}: there is no folder {out.parent}.")
    if abstain_below is not None and not 0 <= abstain_below <= 100:
        raise ValueError(f"--abstain-below is {abstain_below}; wanted a percentile, 0 to 100.")
    loaded, metrics = load_model(model)
    rejector = load_rejector(model, loaded)
    if rejector is None and abstain_below is not None:
        raise ValueError(f"{model} has no rejector, which --abstain-below wants: a run's folder has one.")
    table = prediction_table(loaded, read_inputs(file, loaded, metrics.get("feature_names")), rejector, abstain_below)
    if out is not None:
        with files.replacing(out) as beside:
            table.to_csv(beside, index=False) if out.suffix == ".csv" else table.to_parquet(beside, index=False)
    return table


def prediction_table(
    model: HybridModel, x: np.ndarray, rejector: Rejector | None, abstain_below: float | None = None
) -> pd.DataFrame:
    """One row for each input.

    Args:
      model: the model.
      x: `(n, *event_shape)`.
      rejector: the rejector of this model, or None.
      abstain_below: percentile below which to abstain; None for the rejector's own threshold.

    Returns:
      Columns "prediction" (a class, or E[y|x]), "uncertainty" (of classes: entropy of p(y|x) in nats; of numbers:
      predictive standard deviation), "probability" (that of the predicted class) and "log_prob_x" (nats); with a
      rejector also "score" (unless it is -log p(x)), "percentile" (percentage of the held-out inputs that the
      rejector's score trusts less, 0 to 100) and "abstain".
    """
    answers = predictions.predict(model, x, wanted=[] if rejector is None else [rejector.score])
    if answers.stddev is None:
        table = {
            "prediction": answers.mean.argmax(-1),
            "probability": answers.mean.max(-1),
            "uncertainty": answers.entropy,
        }
    else:
        table = _columns("prediction", answers.mean) | _columns("uncertainty", answers.stddev)
    table["log_prob_x"] = answers.log_prob_x
    if rejector is not None:
        scores = answers.scores[:, 0]
        if not isinstance(rejector.score, NegativeLogProb):
            table["score"] = scores
        percentile = rejector.percentile(scores)
        table["percentile"] = np.round(percentile, 2)
        table["abstain"] = (
            scores > float(rejector.threshold.numpy()) if abstain_below is None else percentile < abstain_below
        )
    return pd.DataFrame(table)


def _columns(name, values):
    """One column, or one for each entry of a vector response."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{i}": column for i, column in enumerate(values.T)}
