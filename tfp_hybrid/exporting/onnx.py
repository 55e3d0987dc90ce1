"""ONNX files, written by tf2onnx, and checked."""

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable

import tensorflow as tf

from tfp_hybrid import _compat, files
from tfp_hybrid.execution import traced_plainly

OPSET = 18
_FIRST = "prediction"


def write_onnx(
    path: os.PathLike | str,
    function: Callable,
    x: tf.TensorSpec,
    meanings: dict[str, str],
    opset_version: int | None = None,
):
    """Writes a function of one tensor as an ONNX graph with one input and several named outputs.

    Args:
      path: The file, which is written beside and renamed.
      function: A function of x that returns a dictionary of tensors.
      x: The spec of the input, with its name.
      meanings: What an input or output of a name is, in words; kept in the file's metadata.
      opset_version: The version of ONNX' operations; 18 if None.

    Raises:
      ImportError: If tf2onnx is not installed.
      ValueError: If ONNX has no counterpart of an operation; the message names it.
    """
    if not str(path).endswith(".onnx"):
        raise ValueError(f"filepath is {str(path)!r}; wanted one that ends in .onnx for the format onnx.")
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise ImportError(f"{error}; the format onnx needs pip install 'tfp-hybrid[onnx]'.") from None
    opset = OPSET if opset_version is None else opset_version
    with traced_plainly():
        traced = tf.function(function, input_signature=[x], autograph=False).get_concrete_function()
    frozen = _compat.frozen(traced)
    outputs = {
        name: tensor.name for name, tensor in zip(sorted(traced.structured_outputs), frozen.outputs, strict=True)
    }
    names = sorted(outputs, key=lambda name: (name != _FIRST, name))
    with _silent("tf2onnx", "tensorflow"):  # what they log, without an error, is checked below
        model, _ = tf2onnx.convert.from_graph_def(
            frozen.graph.as_graph_def(),
            input_names=[frozen.inputs[0].name],
            output_names=[outputs[name] for name in names],
            tensors_to_rename={frozen.inputs[0].name: x.name} | {outputs[name]: name for name in names},
            opset=opset,
        )
    _check(onnx, model, opset)
    described = {name: meanings[name] for name in (x.name, *names) if name in meanings}
    onnx.helper.set_model_props(model, {"signature": json.dumps(described)})
    with files.replacing(path) as beside:
        beside.write_bytes(model.SerializeToString())


def _check(onnx, model, opset):
    """Raises ValueError if the graph has operations that ONNX does not have, or not for their types."""
    stopping = {}
    for node in model.graph.node:
        if node.domain or not onnx.defs.has(node.op_type):
            stopping.setdefault(node.op_type, node.name)
    reason = ", ".join(f"{operation} ({name})" for operation, name in sorted(stopping.items()))
    if not stopping:
        try:
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:  # its errors have no base class of their own
            found = re.search(r"op_type: ?(\w+), node name: ?([^)]+)\)", str(error))
            reason = f"{found[1]} ({found[2]}) for its types" if found else " ".join(str(error).split())[:300]
    if reason:
        raise ValueError(f"The model cannot be written as ONNX: opset {opset} has no counterpart of {reason}.")


@contextlib.contextmanager
def _silent(*names):
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
