"""A monitor's state as JSON, and read from it with every value checked."""

import datetime
import json
import math
import re
from fractions import Fraction

import numpy as np

from tfp_hybrid import strict_json
from tfp_hybrid.uncertainty.monitoring.setup import Setup
from tfp_hybrid.uncertainty.monitoring.sketch import Sketch
from tfp_hybrid.uncertainty.monitoring.tally import NON_FINITE, Tally

_FORMAT = 1
_FRACTION = re.compile(r"-?\d{1,700}(/\d{1,350})?")  # a sum of float64 has no more digits
_LARGEST = 2**62


def to_json(setup: Setup, total: Tally, windows: dict[int, Tally]) -> str:
    """Returns the state as text; the same state gives the same text."""
    by_time = setup.is_by_time
    return strict_json.dumps(
        {
            "monitor": _FORMAT,
            "score": setup.title,
            "threshold": setup.threshold,
            "fitted_to": setup.fitted_to,
            "window": {
                "seconds" if by_time else "rows": int(setup.window.total_seconds()) if by_time else setup.window
            },
            "keep": setup.keep,
            "edges": setup.edges.tolist(),
            "reference": _of_tally(setup.reference),
            "total": _of_tally(total),
            "windows": [{"number": index} | _of_tally(tally) for index, tally in windows.items()],
        },
        indent=None,
    )


def from_json(text: str) -> tuple[Setup, Tally, dict[int, Tally]]:
    """Returns the state in a text.

    Raises:
      ValueError: If the text is not a monitor's, or its numbers contradict each other.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict) or "monitor" not in value:
        raise ValueError("it is not a monitor")
    if value["monitor"] != _FORMAT or isinstance(value["monitor"], bool):
        raise ValueError(f"it has the format {value['monitor']!r}; wanted {_FORMAT}. Update tfp_hybrid")
    names = {"monitor", "score", "threshold", "fitted_to", "window", "keep", "edges", "reference", "total", "windows"}
    _check_names(value, names)
    if not isinstance(value["score"], str):
        raise ValueError(f"score is {value['score']!r}; wanted text")
    setup = Setup(
        value["score"],
        _threshold(value["threshold"]),
        _whole(value["fitted_to"], "fitted_to", most=2**63 - 1),
        _edges(value["edges"]),
        None,
        _window(value["window"]),
        _whole(value["keep"], "keep", least=1),
    )
    setup = setup.with_reference(_tally(value["reference"], "reference", setup.cells))
    if not setup.reference.rows:
        raise ValueError("reference has no rows")
    total, windows = _tally(value["total"], "total", setup.cells), {}
    if not isinstance(value["windows"], list) or len(value["windows"]) > setup.keep:
        raise ValueError(f"windows is not a list of at most {setup.keep}")
    for part in value["windows"]:
        if not isinstance(part, dict) or "number" not in part:
            raise ValueError("windows has one without a number")
        index = _whole(part.pop("number"), "number")
        if windows and index <= max(windows):
            raise ValueError(f"windows has number {index} after {max(windows)}; wanted increasing ones")
        windows[index] = _tally(part, f"window {index}", setup.coarse_cells)
        if not windows[index].rows:
            raise ValueError(f"window {index} has no rows")
    for name in ("rows", "abstentions", *NON_FINITE):
        kept = sum(getattr(tally, name) for tally in windows.values())
        if kept > getattr(total, name):
            raise ValueError(f"the windows have {kept} {name}, more than all {getattr(total, name)}")
    return setup, total, windows


def _of_tally(tally):
    names = ("rows", "abstentions", *NON_FINITE)
    counts = {name: getattr(tally, name) for name in names}
    return counts | {"sum": str(tally.sum), "shift": tally.sketch.shift, "cells": tally.sketch.runs()}


def _tally(value, name, cells: Sketch):
    names = ("rows", "abstentions", *NON_FINITE)
    try:
        if not isinstance(value, dict):
            raise ValueError("it is not an object")
        _check_names(value, {*names, "sum", "shift", "cells"})
        counts = {name: _whole(value[name], name) for name in names}
        if not isinstance(value["sum"], str) or not _FRACTION.fullmatch(value["sum"]):
            raise ValueError(f"sum is {str(value['sum'])[:40]!r}; wanted a fraction")
        runs = value["cells"]
        if not isinstance(runs, list) or not all(isinstance(run, list) and all(map(_is_whole, run)) for run in runs):
            raise ValueError("cells is not a list of lists of whole numbers")
        sketch = cells.from_runs(runs, _whole(value["shift"], "shift"))
        tally = Tally(sum=Fraction(value["sum"]), sketch=sketch, **counts)
        if tally.abstentions > tally.rows or len(sketch) != tally.finite:
            raise ValueError(f"its counts do not add up to {tally.rows} rows")
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"{name}: {error}") from None
    return tally


def _check_names(value, names):
    if value.keys() != names:
        raise ValueError(f"it has the entries {sorted(value)}; wanted {sorted(names)}")


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(value, name, least=0, most=_LARGEST):
    if not _is_whole(value) or not least <= value <= most:
        raise ValueError(f"{name} is {str(value)[:40]}; wanted a whole number, at least {least}")
    return value


def _window(value):
    if isinstance(value, dict) and len(value) == 1:
        ((unit, length),) = value.items()
        if unit == "seconds":
            return datetime.timedelta(seconds=_whole(length, "window", 1, 10**10))
        if unit == "rows":
            return _whole(length, "window", 1)
    raise ValueError(f"window is {str(value)[:40]}; wanted seconds or rows")


def _threshold(value):
    if value == "-Infinity":
        return -math.inf
    if not isinstance(value, float) or not math.isfinite(value):
        raise ValueError(f"threshold is {str(value)[:40]}; wanted a number")
    return value


def _edges(value):
    numbers = isinstance(value, list) and all(isinstance(edge, float) and math.isfinite(edge) for edge in value)
    if not numbers or len(value) > 100 or any(low >= high for low, high in zip(value, value[1:], strict=False)):
        raise ValueError("edges is not a list of at most 100 increasing numbers")
    return np.array(value, float)
