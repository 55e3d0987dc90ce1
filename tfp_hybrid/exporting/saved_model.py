"""A SavedModel with several signatures, requests that warm it up, and a description, in one folder."""

import os
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from tfp_hybrid import files, strict_json
from tfp_hybrid.exporting import warmup

DESCRIPTION = "signature.json"
MARKER = "saved_model.pb"
"""The file by which a folder is known to be a SavedModel."""


class Endpoint(NamedTuple):
    """One signature of a SavedModel.

    Attributes:
      function: A function of tensors.
      inputs: Their specs, or dicts of them, with the names that they have for a client.
      example: Values of them, of one row, for the request that warms the server up.
    """

    function: Callable
    inputs: list[tf.TensorSpec | dict[str, tf.TensorSpec]]
    example: list[tf.Tensor | dict[str, tf.Tensor]]


def write_saved_model(
    path: os.PathLike | str,
    model: keras.Model,
    endpoints: dict[str, Endpoint],
    input_meanings: dict[str, str],
    meanings: dict[str, str],
    about: dict,
):
    """Writes a SavedModel beside, and puts it in its place once it is complete.

    The folder also has `signature.json`, which describes the inputs and outputs of each signature, and
    `assets.extra/tf_serving_warmup_requests`, with which TensorFlow Serving warms up, one request for each signature.

    Args:
      path: The folder. An older SavedModel in it is replaced.
      model: The model, whose variables are saved.
      endpoints: The signatures by name.
      input_meanings: What an input of a name is, in words.
      meanings: What an output of a name is, in words.
      about: What else `signature.json` says.

    Raises:
      ValueError: If the folder has something else in it.
      OSError: If it cannot be written.
    """
    with files.replacing_folder(path, MARKER) as beside:
        archive = keras.export.ExportArchive()
        archive.track(model)
        signatures = {}
        for name, endpoint in endpoints.items():
            function = archive.add_endpoint(name, endpoint.function, list(endpoint.inputs))
            outputs = function.get_concrete_function().structured_outputs
            inputs = tf.nest.flatten(endpoint.inputs)
            signatures[name] = {
                "inputs": {spec.name: _described(spec, input_meanings.get(spec.name)) for spec in inputs},
                "outputs": _outputs(outputs, meanings),
            }
        archive.write_out(str(beside), verbose=False)
        warmup.write(beside, endpoints)
        description = about | {"signatures": signatures}
        (beside / DESCRIPTION).write_text(strict_json.dumps(description) + "\n", encoding="utf-8")


def _outputs(outputs, meanings):
    if isinstance(outputs, dict):
        return {name: _described(spec, meanings.get(name)) for name, spec in outputs.items()}
    return {"output_0": _described(outputs, "what the model returns when it is called")}  # Keras' name


def _described(spec, meaning):
    known = {"dtype": tf.as_dtype(spec.dtype).name, "shape": list(spec.shape)}
    return known if meaning is None else known | {"meaning": meaning}
