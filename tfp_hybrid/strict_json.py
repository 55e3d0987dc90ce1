"""JSON that every reader takes: numbers that JSON has not are strings, and what is read is an object."""

import json
import math
import os
import pathlib


def dumps(value) -> str:
    """JSON of `value`; infinite numbers and NaN become "Infinity", "-Infinity" and "NaN", as in protobuf's JSON.

    A reader that does not expect them fails, rather than taking a missing number for none; `float` reads them.
    """
    return json.dumps(_plain(value), indent=1, allow_nan=False)


def read(path: os.PathLike) -> dict:
    """The object in a JSON file; ValueError if the file holds anything else, or is damaged."""
    try:
        value = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}; remove it.") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds {_shortened(value)}; wanted a JSON object; remove it.")
    return value


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    return value


def _shortened(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
