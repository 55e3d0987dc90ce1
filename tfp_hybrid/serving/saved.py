"""Loading saved models and rejectors, from single files or from the folder of a run."""

import hashlib
import json
import os
import pathlib

import keras

from tfp_hybrid import strict_json
from tfp_hybrid.archives import open_archive
from tfp_hybrid.fingerprint import fingerprint
from tfp_hybrid.models import DensityModel, HybridModel
from tfp_hybrid.serialization import check_format
from tfp_hybrid.tables.targets import CLASSIFICATION, TASKS
from tfp_hybrid.trusted import check_config
from tfp_hybrid.uncertainty import Rejector

_OURS = ("tfp_hybrid>HybridModel", "tfp_hybrid>DensityModel", "tfp_hybrid>Rejector")
MODEL, REJECTOR, METRICS = "model.keras", "rejector.keras", "metrics.json"


def load_model(path: str | os.PathLike, of: type[DensityModel] = HybridModel) -> tuple[DensityModel, dict]:
    """Loads a model and the metrics next to it.

    Args:
      path: Folder of a run, or file of a model or a `Rejector`.
      of: What kind of model is wanted.

    Returns:
      The model, and the metrics, which are empty if there are none.

    Raises:
      ValueError: If the file does not exist, it or the metrics are damaged, or it has another kind of model.
    """
    file = _file(path, MODEL)
    model = _load(file)
    model = model.model if isinstance(model, Rejector) else model
    if not isinstance(model, of):
        raise ValueError(f"{file} has a {type(model).__name__}; wanted a {of.__name__} or a Rejector.")
    return model, _metrics(file.with_name(METRICS))


def load_rejector(path: str | os.PathLike, model: DensityModel) -> Rejector | None:
    """Loads the rejector of a model.

    Args:
      path: Folder of a run, or file of a `Rejector`.
      model: The model that `load_model` returned for the same path.

    Returns:
      The rejector, or None if there is none or it has no threshold.

    Raises:
      ValueError: If the file is damaged, or its model is not `model`.
    """
    file = _file(path, REJECTOR)
    rejector = _load(file) if file.is_file() else None
    if not isinstance(rejector, Rejector) or not len(rejector.reference):
        return None
    if fingerprint(rejector.model) != fingerprint(model):
        raise ValueError(
            f"{file} has another model than {file.with_name(MODEL)}; wanted the same. Save the rejector again with "
            "`Rejector(model).fit_threshold(...).save(...)`."
        )
    rejector.check_fitted()
    return rejector


def digest(path: str | os.PathLike) -> str:
    """Returns a checksum of the files that `load_model` and `load_rejector` read.

    Raises:
      ValueError: If there is no model.
    """
    file = _file(path, MODEL)
    if not file.is_file():
        raise _absent(file)
    found = hashlib.sha256()
    for part in dict.fromkeys((file, _file(path, REJECTOR), file.with_name(METRICS))):
        if part.is_file():
            found.update(hashlib.sha256(part.read_bytes()).digest())
    return found.hexdigest()


def _file(path, name):
    path = pathlib.Path(path)
    return path / name if path.is_dir() else path


def _load(file):
    if not file.is_file():
        raise _absent(file)
    try:
        with open_archive(file) as archive:
            config = json.loads(archive.read("config.json"))
        is_ours = config.get("registered_name") in _OURS and isinstance(config.get("config"), dict)
    except Exception as error:
        raise _damaged(file, error) from error
    if is_ours:
        check_format(config["config"])
    try:
        check_config(config)
        model = keras.models.load_model(file)
    except Exception as error:  # the classes and functions that the file names raise errors of any type
        raise _damaged(file, error) from error
    if not isinstance(model, (DensityModel, Rejector)):
        raise ValueError(f"{file} has a {type(model).__name__}; wanted a HybridModel, a DensityModel or a Rejector.")
    return model


def _absent(file):
    return ValueError(
        f"There is no model at {file}; wanted a saved model, or the folder of a run of `tfp-hybrid train`."
    )


def _damaged(file, error):
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return ValueError(f"{file} cannot be loaded; it is damaged or not a Keras model. ({reason})")


def _metrics(path):
    metrics = strict_json.read(path) if path.exists() else {}
    names, config = metrics.get("feature_names"), metrics.get("config", {})
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{path} has the feature_names {names!r}; wanted a list of names, or null.")
    if not isinstance(config, dict) or not isinstance(config.get("seed", 0), int):
        raise ValueError(f"{path} has the config {config!r}; wanted an object whose seed is a whole number.")
    _check_target(metrics, path)
    return metrics


def _check_target(metrics, path):
    """Raises ValueError if the metrics of a run on a table are not as `train` writes them."""
    if "target" not in metrics:
        return
    target, task, classes = (metrics.get(name) for name in ("target", "task", "classes"))
    are_classes = isinstance(classes, list) and all(isinstance(level, (str, int, float)) for level in classes)
    if not isinstance(target, str) or task not in TASKS or are_classes != (task == CLASSIFICATION):
        found = f"target {target!r}, the task {task!r} and the classes {classes!r}"
        raise ValueError(f"{path} has the {found}; wanted a name, classification or regression, and a list or null.")
