"""Exports a TensorFlow function to StableHLO: its text, its arguments, and its results on this machine."""

import dataclasses

import numpy as np
import tensorflow as tf

from benchmarks import stablehlo
from tfp_hybrid.execution import traced_for_accelerator


@dataclasses.dataclass(frozen=True)
class Exported:
    """A function as portable StableHLO, traced as on a machine with a GPU.

    Attributes:
      text: The module. Its arguments are the inputs followed by what the function captures; its results are the
        outputs followed by the updated variables.
      aliases: Positions of the updated variables among the results, by the positions of their arguments.
      names: Names of the arguments.
      captured: Variables and constants that follow the inputs.
    """

    text: str
    aliases: dict[int, int]
    names: list[str]
    captured: list

    def values(self) -> list[np.ndarray]:
        """Returns the current values of what the function captures."""
        return [value.numpy() for value in self.captured]


def export(function, input_names, *inputs) -> Exported:
    """Traces a function of tensors for an accelerator, and lowers it to StableHLO.

    Args:
      function: A function of tensors, whose variables have been created.
      input_names: Names of its arguments.
      *inputs: Tensors with the shapes and dtypes of its arguments.

    Raises:
      ValueError: If an input is missing from the module's arguments, so that XLA would compile each batch again.
    """
    with traced_for_accelerator():
        compiled = tf.function(function, jit_compile=True, autograph=False)
        concrete = compiled.get_concrete_function(*inputs)
        text = compiled.experimental_get_compiler_ir(*inputs)("stablehlo")
    variables = {id(variable.handle): variable for variable in concrete.variables}
    names, captured = list(input_names), []
    for tensor in concrete.captured_inputs:
        variable = variables.get(id(tensor))
        names.append("constant" if variable is None else variable.name)
        captured.append(tensor if variable is None else variable)
    text, aliases = stablehlo.portable(text), stablehlo.aliases(text)
    found = stablehlo.arguments(text)
    if len(found) < len(names):  # XLA folds integer constants that it needs for compiling, such as shapes
        kept = [len(inputs) + i for i, value in enumerate(captured) if not _is_folded(value)]
        names = [*names[: len(inputs)], *(names[i] for i in kept)]
        captured = [captured[i - len(inputs)] for i in kept]
    exported = Exported(text, aliases, names, captured)
    wanted = [(tuple(value.shape), value.dtype.name) for value in (*inputs, *captured)]
    if found != wanted:
        raise ValueError(
            f"The module has {len(found)} arguments, of which the first are {found[:3]}; wanted {len(wanted)}: "
            f"{wanted[:3]} ... If an input is missing, XLA compiles each batch again."
        )
    return exported


def results(exported: Exported, function, *inputs, jit_compile=False) -> list[np.ndarray]:
    """Computes the module's results with TensorFlow: the outputs followed by the updated variables.

    The variables are restored afterwards.

    Args:
      exported: What `export` returned for the function.
      function: The function that was exported.
      *inputs: The inputs that were exported.
      jit_compile: Whether to compile with XLA. TensorFlow's own kernels sum bfloat16 gradients of the biases in 8 bits.
    """
    before = exported.values()
    with traced_for_accelerator():
        outputs = tf.function(function, jit_compile=jit_compile, autograph=False)(*inputs)
    found = dict(enumerate(output.numpy() for output in tf.nest.flatten(outputs)))
    after, first = exported.values(), len(inputs)
    found |= {result: after[argument - first] for argument, result in exported.aliases.items()}
    for argument in exported.aliases:
        exported.captured[argument - first].assign(before[argument - first])
    return [found[i] for i in range(len(found))]


def _is_folded(value):
    return not hasattr(value, "assign") and value.dtype.is_integer
