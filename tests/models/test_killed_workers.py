"""Two workers, of which one or both are killed again and again, end with the weights of a training in peace."""

import random
import signal
import time

import numpy as np
import pytest
from launching import results, start

KILLS, SECONDS = 20, 60


@pytest.mark.nightly
def test_workers_that_are_killed_again_and_again(tmp_path, capsys):
    def jobs(name):
        return [{"do": "resumable", "path": str(tmp_path / name)}]

    (tmp_path / "peace").mkdir()
    started = time.monotonic()
    (wanted,), _ = results(jobs("peace_state"), tmp_path / "peace", 2)
    whole, chance, waits = time.monotonic() - started, random.Random(0), []
    for number in range(KILLS):
        folder = tmp_path / f"run_{number}"
        folder.mkdir()
        processes = start(jobs("state"), folder, 2)
        time.sleep(chance.uniform(0.3, 0.9) * whole)
        victims = chance.choice([[0], [1], [0, 1]])
        for victim in victims:
            processes[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        codes = [process.wait(timeout=SECONDS) for process in processes]
        waits.append(time.monotonic() - killed)
        if 0 not in codes:  # else the training had ended
            assert all(codes), "nobody goes on alone"
    (tmp_path / "last").mkdir()
    for (worker,) in results(jobs("state"), tmp_path / "last", 2):
        assert worker["loss"][0] == pytest.approx(wanted["loss"][0], abs=1e-5)
        for name, value in wanted.items():
            np.testing.assert_allclose(worker[name], value, rtol=1e-5, atol=1e-5)
    with capsys.disabled():
        print(f"{KILLS} kills; the others ended after {max(waits):.1f} s at most")
