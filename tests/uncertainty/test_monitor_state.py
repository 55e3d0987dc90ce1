"""A monitor's JSON, read strictly."""

import copy
import json

import numpy as np
import pytest
from helpers import blobs

from tfp_hybrid.uncertainty import Monitor

X, _ = blobs(4000)


@pytest.fixture(scope="module")
def monitor(tiny_rejector):
    answers = tiny_rejector.predict(X[1000:1500], verbose=0)
    answers["score"][3], answers["abstain"][3] = np.inf, True
    return Monitor(tiny_rejector, window=100).update(answers)


@pytest.fixture
def state(monitor):
    return json.loads(monitor.to_json())


def test_the_text_is_json_of_the_standard(monitor, state):
    json.loads(monitor.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert Monitor.from_json(json.dumps(state, indent=4)).to_json() == monitor.to_json()


def changed(*path, to):
    def change(state):
        for key in path[:-1]:
            state = state[key]
        if to is None:
            del state[path[-1]]
        else:
            state[path[-1]] = to(state[path[-1]]) if callable(to) else to

    return change


DAMAGES = {
    "format": (changed("monitor", to=2), "format 2; wanted 1. Update tfp_hybrid"),
    "another file": (changed("monitor", to=None), "it is not a monitor"),
    "missing": (changed("keep", to=None), "it has the entries"),
    "title": (changed("score", to=3), "score is 3; wanted text"),
    "threshold": (changed("threshold", to="NaN"), "threshold is NaN"),
    "window": (changed("window", to={"days": 1}), "wanted seconds or rows"),
    "window of no rows": (changed("window", to={"rows": 0}), "window is 0"),
    "keep": (changed("keep", to=True), "keep is True"),
    "fewer kept": (changed("keep", to=3), "windows is not a list of at most 3"),
    "fingerprint": (changed("fitted_to", to=2**64), "fitted_to is 18446744073709551616"),
    "edges": (changed("edges", to=lambda edges: edges[::-1]), "increasing numbers"),
    "infinite edges": (changed("edges", 0, to=-1e999), "increasing numbers"),
    "no reference": (changed("reference", to=lambda tally: tally | {"rows": 0}), "reference: its counts do not add up"),
    "rows": (changed("total", "rows", to=lambda rows: rows + 1), "total: its counts do not add up to 501 rows"),
    "fraction of rows": (changed("total", "rows", to=2.5), "total: rows is 2.5"),
    "negative": (changed("total", "abstentions", to=-1), "total: abstentions is -1"),
    "abstentions": (changed("total", "abstentions", to=501), "do not add up"),
    "too few in all": (changed("total", "abstentions", to=0), "abstentions, more than all 0"),
    "sum": (changed("total", "sum", to="1e999999999"), "sum is '1e999999999'; wanted a fraction"),
    "endless sum": (changed("total", "sum", to="1/0"), "total: "),
    "count": (changed("total", "cells", 0, 1, to="5"), "lists of whole numbers"),
    "cell": (changed("total", "cells", 0, 0, to=2**70), "cells has"),
    "shift": (changed("total", "shift", to=3), "shift is 3"),
    "windows": (changed("windows", to={}), "windows is not a list"),
    "order": (changed("windows", to=lambda windows: windows[::-1]), "wanted increasing ones"),
    "no number": (changed("windows", 1, "number", to=None), "windows has one without a number"),
    "no window": (changed("windows", 1, to=5), "windows has one without a number"),
    "window's count": (changed("windows", 1, "nan", to=1), "window 1: its counts do not add up to 100 rows"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damages_are_explained(name, state, tmp_path):
    change, message = DAMAGES[name]
    change(state)
    (tmp_path / "day.json").write_text(json.dumps(state))
    with pytest.raises(ValueError, match="day.json is damaged or not a file of `Monitor.save`: ") as error:
        Monitor.load(tmp_path / "day.json")
    assert message in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "3", '{"test": 1}', "\x00\x01", "[" * 100_000])
def test_foreign_texts_are_refused(text, tmp_path):
    with pytest.raises(ValueError, match="text is not a monitor's state"):
        Monitor.from_json(text)
    (tmp_path / "day.json").write_bytes(text.encode() + b"\xff")
    with pytest.raises(ValueError, match="is damaged or not a file of"):
        Monitor.load(tmp_path / "day.json")


def test_a_text_cut_short_is_refused(monitor):
    text = monitor.to_json()
    for length in np.linspace(0, len(text) - 1, 50).astype(int):
        with pytest.raises(ValueError, match="it is not JSON"):
            Monitor.from_json(text[:length])


def test_random_damage_is_an_error_or_another_monitor(state):
    """Any value is replaced by any other; nothing else is raised, and what is read is written as it was read."""
    rng = np.random.default_rng(0)
    values = [None, True, -1, 0, 2**63, 10**400, 1.5, "x", "Infinity", "7/3", [], [[]], {}, [[0, 1]], float("inf")]
    refused = 0
    for _ in range(300):
        damaged = copy.deepcopy(state)
        place = damaged
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = keys[rng.integers(len(keys))]
            if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.2:
                break
            place = place[key]
        place[key] = values[rng.integers(len(values))]
        text = json.dumps(damaged)
        try:
            assert json.loads(Monitor.from_json(text).to_json()) == damaged
        except ValueError:
            refused += 1
    assert 200 < refused < 300


def test_paths_are_checked(monitor, tmp_path):
    with pytest.raises(ValueError, match="day.txt; wanted a .json file"):
        monitor.save(tmp_path / "day.txt")
    with pytest.raises(ValueError, match="There is no monitor at .*day.json; wanted a file that `Monitor.save` wrote"):
        Monitor.load(tmp_path / "day.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="day.json cannot be written"):
        monitor.save(tmp_path / "file" / "day.json")


def test_a_threshold_that_keeps_nothing_is_written(tiny_rejector):
    threshold = float(tiny_rejector.threshold)
    tiny_rejector.threshold.assign(-np.inf)  # as by a coverage of 0
    try:
        monitor = Monitor(tiny_rejector).update(tiny_rejector.predict(X[:10], verbose=0))
    finally:
        tiny_rejector.threshold.assign(threshold)
    assert monitor.threshold == -np.inf and monitor.abstentions == 10 == monitor.rows
    assert Monitor.from_json(monitor.to_json()) == monitor and "-Inf" in monitor.prometheus()
