"""`score`: predicts the rows of a file, with their uncertainty and whether to abstain."""

import os
import pathlib

import numpy as np
import pandas as pd

from tfp_hybrid import files, uncertainty
from tfp_hybrid.commands import table_files
from tfp_hybrid.commands.inputs import check_order, read_inputs
from tfp_hybrid.commands.progress import CONSOLE, batches
from tfp_hybrid.commands.streaming import check_out
from tfp_hybrid.commands.table_report import because
from tfp_hybrid.models import side_inputs
from tfp_hybrid.serving import Scorer

_REFERENCE_ROWS = 200  # drawn from the model
_ROWS = 2**16  # between two steps of the progress bar


def score(
    model: str | os.PathLike,
    file: str | os.PathLike,
    *,
    out: str | os.PathLike | None = None,
    abstain_below: float | None = None,
    explain: bool = False,
) -> pd.DataFrame:
    """Predicts each row of a file, and decides whether to abstain.

    The file and the table are in memory as a whole; `score_file` scores files of any size.

    Args:
      model: Folder of a run, or file of a saved model or rejector.
      file: Inputs, in a `.npz` file with an array x, a `.csv` or a `.parquet` file. A model with side inputs takes a
        table that has their columns, too.
      out: A `.csv` or `.parquet` file to which the table is written; None writes nothing.
      abstain_below: Percentile of the held-out rows, 0 to 100, below which to abstain; None uses the rejector's
        threshold.
      explain: Whether to say which columns make a row foreign, for the rows on which it abstains. They are compared
        with rows that are drawn from the model, which must be one of x alone.

    Returns:
      The answers of `serving.Scorer`, one row for each input. With `explain`, also "because", up to three names of
      columns.

    Raises:
      ValueError: If a file cannot be read or written, or the model cannot take the inputs.
    """
    out = None if out is None else pathlib.Path(out)
    if out is not None:
        check_out(out, (".csv", ".parquet"))
    scorer = Scorer(model, abstain_below)
    answers = scorer.answers
    if answers.rejector is None and explain:
        raise ValueError(f"--explain needs a rejector, but {model} has none; wanted the folder of a run.")
    loaded = answers.model
    if explain:
        side_inputs.check_none(loaded, "--explain")
    x, parts = _read(file, scorer), []
    for rows in batches(side_inputs.count(x), _ROWS, "scoring"):
        parts.append(pd.DataFrame(answers(side_inputs.take(x, rows), abstain_below)))
    table = pd.concat(parts, ignore_index=True)
    if explain:
        table["because"] = _because(loaded, x, table["abstain"].to_numpy())
    if out is not None:
        with files.replacing(out) as temporary:
            table.to_csv(temporary, index=False) if out.suffix == ".csv" else table.to_parquet(temporary, index=False)
    return table


def _read(file, scorer):
    """Returns the inputs in a file, with those beside x."""
    model = scorer.answers.model
    if not model.side_inputs:
        return read_inputs(file, model, scorer.feature_names, scorer.target)
    names = list(model.side_inputs)
    if not table_files.is_table(file):
        raise ValueError(f"{file} has no columns for the side inputs {names}; wanted a .csv or .parquet file.")
    text = table_files.text_columns(model.inputs_spec.columns, scorer.target, model.side_inputs)
    table = table_files.read_table(file, text)
    if scorer.feature_names is None:
        check_order([name for name in table if name not in names], file)
    try:
        return scorer.inputs(table)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def _because(model, x, abstain):
    """Returns the names of the columns that make each row foreign, for the rows on which a rejector abstains."""
    found = np.full(len(x), "", object)
    if abstain.any():
        with CONSOLE.status("explaining"):
            usual = model.sample(_REFERENCE_ROWS, seed=0)["x"]
            surprise = uncertainty.explain(model, x[abstain], np.asarray(usual))
        found[abstain] = [", ".join(names) for names in because(surprise)]
    return found
