"""Predictions, their uncertainty, and whether to trust them, for the rows of a file."""

import json
import pathlib
import zipfile

import keras
import numpy as np
import pandas as pd

from tfp_hybrid import checks
from tfp_hybrid.experiments import evaluation
from tfp_hybrid.hybrid import HybridModel
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector
from tfp_hybrid.uncertainty.scores import fingerprint

MODEL, REJECTOR, METRICS = "model.keras", "rejector.keras", "metrics.json"


def load_model(path) -> tuple[HybridModel, dict]:
    """A model and the metrics beside it.

    Args:
      path: the folder of a run; or a file with a `HybridModel` or a `Rejector`.

    Returns:
      The model; the metrics, empty if there are none.

    Raises:
      ValueError: if there is no file, if it is damaged, or if it holds another kind of model.
    """
    file = _file(path, MODEL)
    model = _load(file)
    model = model.model if isinstance(model, Rejector) else model
    metrics = file.with_name(METRICS)
    return model, json.loads(metrics.read_text()) if metrics.exists() else {}


def load_rejector(path, model: HybridModel) -> Rejector | None:
    """The rejector of a model.

    Args:
      path: as of `load_model`.
      model: what that returned.

    Returns:
      The rejector; None if there is none, or none with a threshold.

    Raises:
      ValueError: if it is damaged, or if its model is not `model`.
    """
    file = _file(path, REJECTOR)
    rejector = _load(file) if file.is_file() else None
    if not isinstance(rejector, Rejector) or not len(rejector.reference):
        return None
    if fingerprint(rejector.model) != fingerprint(model):
        raise ValueError(
            f"{file} holds another model than {file.with_name(MODEL)}; wanted the same. Make it again: "
            "`Rejector(model).fit_threshold(...).save(...)`."
        )
    rejector.check_fitted()
    return rejector


def _file(path, name):
    path = pathlib.Path(path)
    return path / name if path.is_dir() else path


def _load(file):
    if not file.is_file():
        raise ValueError(f"There is no model at {file}; wanted a file written by `tfp-hybrid train`.")
    try:
        model = keras.models.load_model(file)
    except (ValueError, TypeError, KeyError, OSError, zipfile.BadZipFile) as error:
        reason = "" if "File not found" in str(error) else f" ({str(error).strip().splitlines()[0][:300]})"
        raise ValueError(f"{file} cannot be loaded; it is damaged or no Keras model.{reason}") from None
    if not isinstance(model, (HybridModel, Rejector)):
        raise ValueError(f"{file} holds a {type(model).__name__}; wanted a HybridModel or a Rejector.")
    return model


def read_inputs(path, model, feature_names=None) -> np.ndarray:
    """Inputs from a file, one row each.

    Args:
      path: `.npz` with the array `x` (or a single array); `.csv` or `.parquet` with a column for each feature, by
        name where the model knows names, else in order (images: row by row).
      model: the model they are for.
      feature_names: names of the columns, or None.

    Returns:
      x, `(n, *event_shape)`.

    Raises:
      ValueError: if the file cannot be read, lacks columns, or holds inputs that the model cannot take.
    """
    path = pathlib.Path(path)
    shape = tuple(model.distribution.event_shape)
    readers = {".npz": _read_npz, ".csv": pd.read_csv, ".parquet": pd.read_parquet}
    if path.suffix not in readers:
        raise ValueError(f"{path} ends in {path.suffix!r}; wanted one of {', '.join(readers)}.")
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
    try:
        table = readers[path.suffix](path)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if isinstance(table, pd.DataFrame):
        if feature_names:
            missing = [name for name in feature_names if name not in table]
            if missing:
                raise ValueError(f"{path} lacks the columns {missing}; wanted {list(feature_names)}.")
            table = table[list(feature_names)]
        elif all(_is_number(name) for name in table) and list(map(str, table)) != list(map(str, range(table.shape[1]))):
            raise ValueError(
                f"{path} has numbers for column names, such as {table.columns[0]}; wanted a line of names."
            )
        if table.shape[1] != np.prod(shape):
            raise ValueError(f"{path} has {table.shape[1]} columns; wanted {np.prod(shape)}, for inputs {shape}.")
        table = table.to_numpy().reshape(-1, *shape)
    checks.check_inputs(table, model.distribution, f"{path.name}: x")
    return table


def score(model: HybridModel, x, rejector: Rejector | None, abstain_below: float | None = None) -> pd.DataFrame:
    """One row for each input.

    Args:
      model: the model.
      x: `(n, *event_shape)`.
      rejector: the rejector of this model, or None.
      abstain_below: percentile under which to abstain; None for the rejector's own threshold.

    Returns:
      Columns "prediction" (a class, or E[y|x]), "uncertainty" (classes: entropy of p(y|x) in nats; numbers:
      predictive standard deviation), "probability" (classes: of the predicted one) and "log_prob_x" (nats); with a
      rejector also "score" (unless it is -log p(x)), "percentile" (per cent of the held-out inputs that the rejector's
      score trusts less, 0 to 100) and "abstain".
    """
    answers = evaluation.predict(model, x, wanted=[] if rejector is None else [rejector.score])
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
        table["abstain"] = scores > float(rejector.threshold) if abstain_below is None else percentile < abstain_below
    return pd.DataFrame(table)


def _is_number(name):
    try:
        float(name)
    except ValueError:
        return False
    return True


def _columns(name, values):
    """One column, or one for each entry of a vector response."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{i}": column for i, column in enumerate(values.T)}


def _read_npz(path):
    with np.load(path, allow_pickle=False) as arrays:
        if "x" in arrays:
            return arrays["x"]
        if len(arrays.files) == 1:
            return arrays[arrays.files[0]]
        raise ValueError(f"it holds the arrays {arrays.files}; wanted one named 'x'.")
