"""Finished runs, which are kept with what they were measured with."""

import pandas as pd
import pytest
import typer

from benchmarks.finished import Finished


def test_runs_are_kept_and_those_of_other_settings_are_not_mixed_in(tmp_path):
    path, columns = tmp_path / "runs.csv", ["set", "seed", "error"]
    finished = Finished(path, columns, {"steps": 5})
    assert not finished.has(set="a", seed=0)
    finished.add(pd.DataFrame({"seed": [0, 1], "set": "a", "error": [0.1, 1 / 3]}))
    finished.add(pd.DataFrame({"seed": [0], "set": "b", "error": 0.5, "more": 1}))
    again = Finished(path, columns, {"steps": 5})
    assert again.has(set="a", seed=1) and again.has(set="b", seed=0) and not again.has(set="b", seed=1)
    assert list(again.table) == [*columns, "settings", "machine"] and again.table["error"].tolist() == [
        0.1,
        0.33333333,
        0.5,
    ]
    assert "cores of" in again.machines and ";" not in again.machines
    before = path.read_bytes()
    with pytest.raises(typer.BadParameter, match="has runs with other settings; delete it"):
        Finished(path, columns, {"steps": 6})
    assert path.read_bytes() == before
