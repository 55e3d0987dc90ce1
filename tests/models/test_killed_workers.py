"""Two workers, of which one or both are killed again and again, end with the weights of a training in peace."""

import contextlib
import random
import signal
import time

import numpy as np
import pytest
from launching import results, start, wait_until

KILLS, SECONDS = 20, 60


@pytest.mark.nightly
def test_workers_that_are_killed_again_and_again(tmp_path, capsys):
    """Kills come from when the workers have found each other on, half of them while the state is being written."""

    def jobs(name):
        return [{"do": "resumable", "path": str(tmp_path / name / "state"), "epochs": 120}]

    (tmp_path / "peace").mkdir()
    (wanted,), _ = results(jobs("peace"), tmp_path / "peace", 2)
    chance, waits, in_writing = random.Random(0), [], 0
    states = tmp_path / "killed"
    for number in range(KILLS):
        folder = tmp_path / f"run_{number}"
        folder.mkdir()
        processes, begin = start(jobs("killed"), folder, 2), time.time()

        def is_writing(begin=begin):
            with contextlib.suppress(FileNotFoundError):  # it has been renamed
                return any(path.name != "state" and path.stat().st_mtime > begin for path in states.glob("*"))

        wait_until(lambda folder=folder: len(list(folder.glob("*/joined"))) == 2, SECONDS)
        time.sleep(chance.uniform(0, 12))
        victims = chance.choice([[0], [1], [0, 1]])
        if number % 2:
            wait_until(is_writing, 10)
            in_writing += bool(is_writing())
        for victim in victims:
            processes[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        codes = [process.wait(timeout=SECONDS) for process in processes]
        waits.append(time.monotonic() - killed)
        assert all(codes), "nobody goes on alone, and no kill came too late"
    (tmp_path / "last").mkdir()
    for (worker,) in results(jobs("killed"), tmp_path / "last", 2):
        assert worker["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
        for name, value in wanted.items():
            np.testing.assert_allclose(worker[name], value, rtol=1e-5, atol=1e-5)
    with capsys.disabled():
        print(f"{KILLS} kills, {in_writing} in writing; the others ended after {max(waits):.1f} s at most")
