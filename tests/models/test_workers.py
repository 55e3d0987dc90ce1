"""Two workers on this machine train as one process does, with Keras' own `fit`."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

WORKER = pathlib.Path(__file__).with_name("worker.py")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(jobs, folder, count):
    """Starts the processes that do the jobs together, each with a folder of its own for results and messages."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    processes = []
    for index in range(count):
        out = folder / f"{index}_of_{count}"
        out.mkdir()
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        env = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"} | ({"TF_CONFIG": json.dumps(task)} if count > 1 else {})
        with open(out / "log", "w") as log:
            command = [sys.executable, WORKER, json.dumps(jobs), out]
            processes.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT))
    return processes


def results(jobs, folder, count):
    """What each process has found: a list of the results of the jobs."""
    processes = start(jobs, folder, count)
    codes = [process.wait(timeout=600) for process in processes]
    folders = [folder / f"{index}_of_{count}" for index in range(count)]
    assert codes == [0] * count, "\n".join((place / "log").read_text()[-3000:] for place in folders)
    return [[dict(np.load(place / f"job_{number}.npz")) for number in range(len(jobs))] for place in folders]


def assert_equal(found, wanted, tolerance=1e-5):
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=tolerance, atol=tolerance, err_msg=name)


EQUAL = {"do": "equal", "flow": "real_nvp", "optimizer": "adam"}


@pytest.mark.integration
def test_two_workers_train_as_one_process(tmp_path):
    """On batches with a weight for each row, of which the last has two rows for one worker and one for the other."""
    ((one,),) = results([EQUAL], tmp_path, 1)
    assert one["fit_loss"][-1] < one["fit_loss"][0]
    two = results([EQUAL, {"do": "noise"}], tmp_path, 2)
    for worker in two:
        assert_equal(worker[0], one)
    first, second = (worker[1]["noise"] for worker in two)
    assert first.shape == (1, 3, 2, 2, 1) and ((0 <= first) & (first < 1)).all()
    assert np.unique([first, second]).size == 2 * first.size, "each replica draws its own"


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return results([{"do": "shuffled"}, {"do": "of_other_data"}], tmp_path_factory.mktemp("two"), 2)


@pytest.mark.nightly
def test_shuffled_rows_count_once_without_a_seed(two):
    first, second = (worker[0] for worker in two)
    assert_equal(first, second, 0)
    np.testing.assert_allclose(first["epochs"], first["rows"], rtol=1e-5)


@pytest.mark.nightly
def test_workers_with_other_rows_stay_equal(two):
    """Also with other numbers of batches."""
    first, second = (worker[1] for worker in two)
    assert_equal(first, second, 0)
    assert np.abs(np.diff(first["epochs"], axis=0)).max() > 1e-3


@pytest.mark.nightly
@pytest.mark.parametrize("flow", ["real_nvp", "glow"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_workers_train_any_flow_with_any_optimizer(flow, optimizer, tmp_path):
    jobs = [{"do": "equal", "flow": flow, "optimizer": optimizer}]
    ((one,),) = results(jobs, tmp_path, 1)
    for (worker,) in results(jobs, tmp_path, 2):
        assert_equal(worker, one)
