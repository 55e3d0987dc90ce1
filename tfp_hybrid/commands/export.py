"""`export`: writes a saved model for other programs."""

import os
import pathlib

from tfp_hybrid import files, strict_json
from tfp_hybrid.commands.progress import CONSOLE
from tfp_hybrid.exporting.saved_model import DESCRIPTION
from tfp_hybrid.serving.saved import load_model, load_rejector

FORMATS = {  # of the command: Keras' name, and where it is written by default
    "saved_model": ("tf_saved_model", "served/1"),
    "onnx": ("onnx", "model.onnx"),
    "litert": ("litert", "model.tflite"),
}


def export(model: str | os.PathLike, *, format: str = "saved_model", out: str | os.PathLike | None = None) -> dict:
    """Writes the rejector of a run, or its model if there is none, as `Rejector.export`.

    Args:
      model: Folder of a run, or file of a saved model or rejector.
      format: "saved_model", "onnx" or "litert".
      out: The folder of the SavedModel, or the file; None is `served/1`, `model.onnx` or `model.tflite` beside the
        model.

    Returns:
      "path", and for a SavedModel what its `signature.json` says; that of a run on a table also has its "classes".

    Raises:
      ValueError: If the model cannot be read, the path cannot be written, or the format lacks an operation of the
        model.
    """
    if format not in FORMATS:
        raise ValueError(f"--format is {format!r}; wanted one of {', '.join(FORMATS)}.")
    name, place = FORMATS[format]
    folder = pathlib.Path(model) if pathlib.Path(model).is_dir() else pathlib.Path(model).parent
    out = folder / place if out is None else pathlib.Path(out)
    files.check_writable(out.parent)
    loaded, metrics = load_model(model)
    rejector = load_rejector(model, loaded)
    with CONSOLE.status(f"exporting as {format}"):
        (loaded if rejector is None else rejector).export(out, name, verbose=False)
    if format != "saved_model":
        return {"path": str(out)}
    signature = strict_json.read(out / DESCRIPTION)
    more = {key: metrics[key] for key in ("target", "classes", "feature_names") if metrics.get(key)}
    if more.keys() - signature.keys():
        signature = more | signature
        files.write(out / DESCRIPTION, strict_json.dumps(signature) + "\n")
    return {"path": str(out)} | signature
