"""Kills of `tfp-hybrid train digits`, at random moments and in writing: it resumes, and its figures stay the same."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from same_run import assert_same_run

import tfp_hybrid  # noqa: F401 (what saved models are made of)

SCRIPT = pathlib.Path(__file__).with_name("killing.py")
FILES = {"model.keras", "rejector.keras", "metrics.json", "history.csv", "report.html"}


@pytest.mark.nightly
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and kills processes")
def test_killed_runs_end_as_if_they_had_not_been(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stderr + logs
    check(tmp_path)


def check(folder):
    kills = [kill for path in folder.glob("kills_*.json") for kill in json.loads(path.read_text())]
    assert len(kills) >= 20
    for name in sorted({kill["run"] for kill in kills}):
        assert_same_run(folder / name, folder / "uninterrupted")
        # Killed after its last step, a finished run still has its lock.
        assert {path.name for path in (folder / name).iterdir()} - {".lock"} == FILES
