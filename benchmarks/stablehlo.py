"""Rewrites StableHLO text that TensorFlow exports, so that any recent XLA compiles it at a chosen precision."""

import re

PRECISIONS = ("DEFAULT", "HIGH", "HIGHEST")
_ALIAS = re.compile(r"parameter_number = (\d+)[^}]*}, output_index = array<i64(?:: (\d+))?>")
_LOCATION = re.compile(r' loc\((?:#loc\d*|unknown|"(?:[^"\\]|\\.)*"|fused\[[^\]]*\])\)')
_LOCATION_LINE = re.compile(r"^#loc\d* = .*\n", re.MULTILINE)
_MODULE = re.compile(r"^(module @\S+)(?: attributes \{.*\})? \{$", re.MULTILINE)
_ATTRIBUTES = re.compile(r" ?\{mhlo\.frontend_attributes = \{[^}]*\}\}")
_COPY = re.compile(r"mhlo\.copy (%[\w#]+) : ")
_ARGUMENT = re.compile(r"%arg\d+: tensor<([^>]*)>")
_DTYPES = {
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "i1": "bool",
    "i32": "int32",
    "i64": "int64",
    "ui32": "uint32",
    "ui64": "uint64",
}
_PRECISION = re.compile(r"(#stablehlo<precision )\w+>|precision = \[\w+, \w+\]")


def aliases(text: str) -> dict[int, int]:
    """Returns the positions of the updated variables among the results, by their positions among the arguments."""
    return {int(argument): int(result or 0) for argument, result in _ALIAS.findall(text)}


def arguments(text: str) -> list[tuple[tuple[int, ...], str]]:
    """Returns the shapes and dtypes of the module's arguments."""
    start = text.index("@main(")
    tensors = (tensor.split("x") for tensor in _ARGUMENT.findall(text[start : text.index("->", start)]))
    return [(tuple(map(int, sizes)), _DTYPES[dtype]) for *sizes, dtype in tensors]


def portable(text: str) -> str:
    """Returns the module without parts that only TensorFlow's own runtime supports.

    Source locations, layouts and aliases are removed, and `mhlo.copy`, which other runtimes do not know, is replaced by
    an optimization barrier.
    """
    text = _LOCATION.sub("", _LOCATION_LINE.sub("", text))
    text = _MODULE.sub(r"\1 {", text, count=1)
    return _COPY.sub(r"stablehlo.optimization_barrier \1 : ", _ATTRIBUTES.sub("", text))


def with_precision(text: str, precision: str) -> str:
    """Returns the module with all its convolutions and matrix products at one precision.

    Args:
      text: The module.
      precision: "DEFAULT", with which a GPU uses TF32 for float32; or "HIGH" or "HIGHEST", with which it does not.

    Raises:
      ValueError: If `precision` is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` is {precision!r}; wanted one of {', '.join(PRECISIONS)}.")

    def replace(match):
        return f"{match[1]}{precision}>" if match[1] else f"precision = [{precision}, {precision}]"

    return _PRECISION.sub(replace, text)
