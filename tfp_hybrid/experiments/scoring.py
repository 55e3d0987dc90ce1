"""Predictions, their uncertainty, and whether to trust them, for the rows of a file."""

import json
import pathlib

import keras
import numpy as np
import pandas as pd

from tfp_hybrid import strict_json
from tfp_hybrid.experiments import evaluation
from tfp_hybrid.experiments.archives import open_archive
from tfp_hybrid.experiments.inputs import read_inputs as read_inputs
from tfp_hybrid.hybrid import HybridModel
from tfp_hybrid.trusted import check_config
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
      ValueError: if there is no file, if it or the metrics are damaged, or if it holds another kind of model.
    """
    file = _file(path, MODEL)
    model = _load(file)
    model = model.model if isinstance(model, Rejector) else model
    return model, _metrics(file.with_name(METRICS))


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
        with open_archive(file) as archive:
            check_config(json.loads(archive.read("config.json")))
        model = keras.models.load_model(file)
    except Exception as error:  # of all that is built from it, each raises what it likes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise ValueError(f"{file} cannot be loaded; it is damaged or no Keras model. ({reason})") from error
    if not isinstance(model, (HybridModel, Rejector)):
        raise ValueError(f"{file} holds a {type(model).__name__}; wanted a HybridModel or a Rejector.")
    return model


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
        table["abstain"] = (
            scores > float(rejector.threshold.numpy()) if abstain_below is None else percentile < abstain_below
        )
    return pd.DataFrame(table)


def _metrics(path):
    metrics = strict_json.read(path) if path.exists() else {}
    names, config = metrics.get("feature_names"), metrics.get("config", {})
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{path} has the feature_names {names!r}; wanted a list of names, or null.")
    if not isinstance(config, dict) or not isinstance(config.get("seed", 0), int):
        raise ValueError(f"{path} has the config {config!r}; wanted an object whose seed is a whole number.")
    return metrics


def _columns(name, values):
    """One column, or one for each entry of a vector response."""
    if values.ndim == 1:
        return {name: values}
    return {f"{name}_{i}": column for i, column in enumerate(values.T)}
