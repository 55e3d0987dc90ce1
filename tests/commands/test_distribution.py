"""`tfp-hybrid train --workers 2`: two processes train one model, and the chief alone writes."""

import json
import subprocess
import sys

import psutil
import pytest
from launching import wait_until
from typer.testing import CliRunner

from tfp_hybrid.cli import app
from tfp_hybrid.commands import distribution, train


@pytest.mark.nightly
def test_two_workers_train_what_one_process_does(tmp_path):
    command = [sys.executable, "-m", "tfp_hybrid.cli", "train", "simulation", "--epochs", "2", "--ood", "noise"]
    command += ["--workers", "2", "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Wrote history.csv") == 1
    one = train("simulation", tmp_path / "one", epochs=2, ood=("noise",))
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    for part in ("test", "validation"):
        assert two[part] == pytest.approx(one[part], rel=1e-3)
    names = [sorted(path.name for path in (tmp_path / run).iterdir()) for run in ("one", "two")]
    assert names[0] == names[1]


@pytest.mark.nightly
def test_workers_end_when_what_has_started_them_is_killed(tmp_path):
    command = [sys.executable, "-m", "tfp_hybrid.cli", "train", "simulation", "--epochs", "500", "--workers", "2"]
    started = subprocess.Popen([*command, "--out", str(tmp_path / "run")], stdout=subprocess.DEVNULL)
    workers = []

    def joined():
        workers[:] = psutil.Process(started.pid).children()
        return len(workers) == 2 and (tmp_path / "run" / "checkpoint.npz").exists()

    wait_until(joined, 120)
    assert len(workers) == 2
    started.kill()
    started.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive


def test_a_worker_that_fails_ends_all():
    with pytest.raises(ChildProcessError, match="Worker 0 ended with status 1. It said why."):
        distribution.run_workers(["train", "imagenet", "--out", "nowhere"], 2)


def test_a_table_is_for_one_process(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    arguments = ["train", str(tmp_path / "t.csv"), "--target", "b", "--out", str(tmp_path / "out"), "--workers", "2"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 1 and "--workers is 2; wanted 1 for the table" in " ".join(found.output.split())
