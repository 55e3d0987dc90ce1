"""Strictly standard JSON: infinities and NaN are written as strings, and files hold one object."""

import json
import math
import os
import pathlib


def dumps(value, indent: int | None = 1) -> str:
    """Formats `value` as JSON, with infinities and NaN as the strings "Infinity", "-Infinity" and "NaN".

    Protobuf's JSON uses the same strings, and `float` parses them. Unlike null, they cannot be mistaken for missing
    values.

    Args:
      value: Dictionaries, lists, numbers, texts, booleans and None.
      indent: The number of spaces for each level; None for one line without spaces.
    """
    separators = (",", ":") if indent is None else None
    return json.dumps(_without_non_finite(value), indent=indent, separators=separators, allow_nan=False)


def read(path: os.PathLike | str) -> dict:
    """Reads the object in a JSON file.

    Raises:
      ValueError: If the file is not valid JSON, or holds anything but an object.
    """
    try:
        value = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}. Remove the file.") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds {_shortened(value)}; wanted a JSON object. Remove the file.")
    return value


def _without_non_finite(value):
    if isinstance(value, dict):
        return {key: _without_non_finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_non_finite(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def _shortened(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
