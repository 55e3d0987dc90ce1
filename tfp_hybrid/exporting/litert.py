"""LiteRT files of operations that every LiteRT interpreter has, written by Keras."""

import os
import pathlib
import re
import tempfile

import keras
import tensorflow as tf

from tfp_hybrid import files
from tfp_hybrid.execution import traced_plainly


def write_litert(path: os.PathLike | str, model: keras.Model, x: tf.TensorSpec, **kwargs):
    """Writes a model by `keras.Model.export` with `format="litert"`.

    Args:
      path: The file, which ends in .tflite; it is written beside and renamed.
      model: The model.
      x: The spec of its input.
      **kwargs: Attributes of `tf.lite.TFLiteConverter`. By default, only LiteRT's own operations are taken, since
        those of TensorFlow need its Flex delegate, which most interpreters lack.

    Raises:
      ValueError: If the path has another ending, or if LiteRT has no counterpart of an operation.
    """
    if pathlib.Path(path).suffix != ".tflite":
        raise ValueError(f"filepath is {str(path)!r}; wanted one that ends in .tflite for the format litert.")
    kwargs = {"target_spec": {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}} | kwargs
    with tempfile.TemporaryDirectory() as folder:
        written = pathlib.Path(folder) / "model.tflite"
        try:
            with traced_plainly():
                keras.Model.export(model, str(written), "litert", verbose=False, input_signature=[x], **kwargs)
        except Exception as error:  # the converter's class is not public
            stopping = sorted(set(re.findall(r"'?\btf\.([A-Z]\w+)", str(error))))
            if not stopping:
                raise
            raise ValueError(
                f"The model cannot be written for LiteRT, which has no counterpart of {', '.join(stopping)}."
            ) from None
        with files.replacing(path) as beside:
            beside.write_bytes(written.read_bytes())
