"""The benchmarks run, and what they compute from the times is right. No test looks at a time."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from typer.testing import CliRunner

from benchmarks import cases, contestants, flops, waiting
from benchmarks.__main__ import app
from benchmarks.parameters import check_parameters, expected_parameters
from benchmarks.power_law import fit_exponent
from benchmarks.process import ROOT, Worker, WorkerFailed
from benchmarks.rounds import ratio, take_turns

CONTESTANTS = [
    pytest.param(library, marks=pytest.mark.skipif(bool(reason), reason=str(reason)))
    for library in contestants.VARIANTS
    for reason in [contestants.missing(library)]
]


def run(command, out, *options, file=None):
    """What a command prints and writes."""
    answer = CliRunner().invoke(app, [command, "--quick", "--out", str(out), *options])
    assert answer.exit_code == 0, answer.output
    written = json.loads((out / f"{file or command}.json").read_text())
    assert {"command", "date", "machine", "versions", "seed", "rounds", "seconds_per_turn"} <= written.keys()
    assert {"cpu", "cores", "memory_gib", "os"} <= written["machine"].keys()
    assert written["versions"]["tensorflow"]
    return answer.output, written


@pytest.mark.nightly
def test_compare(tmp_path, monkeypatch):
    is_missing = {"normflows": "normflows is not installed"}
    monkeypatch.setattr(contestants, "missing", is_missing.get)
    printed, written = run(
        "compare", tmp_path, "--only", "glow", "--work", "density", "--against", "normflows", file="compare_glow"
    )
    graph, xla, *skipped = written["results"]
    assert (graph["library"], graph["variant"], xla["variant"]) == ("tfp_hybrid", "graph", "xla")
    assert [row["skipped"] for row in skipped] == 2 * ["normflows is not installed"]
    assert "normflows, eager: skipped: normflows is not installed" in printed
    case = cases.QUICK_CASES["glow"]
    for row in (graph, xla):
        assert row["items_per_call"] == case.batch and row["first_call_seconds"] > 0
        assert row["parameters"] == expected_parameters(case, "tfp_hybrid")
        assert row["items_per_second"]["rounds"] == [case.batch / row["seconds_per_call"][0]]
    assert graph["ratios"]["tfp_hybrid, xla"]["median"] == pytest.approx(
        graph["seconds_per_call"][0] / xla["seconds_per_call"][0]
    )
    assert (tmp_path / "compare_glow.png").stat().st_size > 1000


@pytest.mark.nightly
def test_latency(tmp_path):
    printed, written = run("latency", tmp_path)
    assert written["requests"] == 20
    for rows in written["milliseconds"].values():
        assert rows.keys() == {"all answers", "the prediction alone"}
        assert all(0 < row["p50"] <= row["p99"] for row in rows.values())
    assert "the prediction alone" in printed


@pytest.mark.nightly
def test_wire(tmp_path):
    printed, written = run("wire", tmp_path, "--steps", "5")
    for row in written["cases"].values():
        assert row["gradients"] == 4 * row["weights"] < row["sent"]
    assert "bytes sent" in printed


@pytest.mark.nightly
def test_scoring(tmp_path):
    printed, written = run("scoring", tmp_path)
    assert written["images"] == 200 and {"predict", "-log p(x)", "Rejector.predict"} <= written["ratios"].keys()
    assert written["ratios"]["predict"]["median"] == 1
    expected = ratio(written["seconds"]["typicality"], written["seconds"]["predict"])
    assert written["ratios"]["typicality"] == expected and "typicality" in printed


@pytest.mark.nightly
def test_checking(tmp_path):
    printed, written = run("checking", tmp_path)
    assert set(written["results"]) == {"256 rows of 8 columns", "64 images"}
    for name, result in written["results"].items():
        assert result["arrays"] == ratio(result["seconds"]["check"], result["seconds"]["predict"]) and name in printed
        unchecked = result["seconds"]["data set, unchecked"]
        assert result["data sets"] == ratio(result["seconds"]["data set"], unchecked)


@pytest.mark.nightly
def test_overhead(tmp_path):
    _, written = run("overhead", tmp_path)
    names = [row["name"] for row in written["ratios"]]
    assert len(names) == 5 and all(row["ratio"]["median"] > 0 for row in written["ratios"])
    speeds = written["ratios"][-1]["flops_per_second"]
    assert written["ratios"][-1]["ratio"]["median"] == pytest.approx(
        speeds["step"]["median"] / speeds["matmul"]["median"]
    )
    assert [len(row["seconds"]) for row in written["first_steps"]] == [1]
    assert list(written["waiting"]) == list(waiting.STAGES)
    assert all(row["real_nvp"]["median"] > 0 for row in written["waiting"].values())


@pytest.mark.nightly
def test_memory(tmp_path):
    _, written = run("memory", tmp_path)
    assert [row["recompute"] for row in written["peaks"]] == [False, True]
    for row in written["peaks"]:
        assert row["peak_bytes"] == row["resident_bytes_before"] + row["step_bytes"] > 2**27
    times = written["step"]["seconds"]
    assert written["step"]["ratio"]["median"] == pytest.approx(times["recomputed"][0] / times["stored"][0])
    assert (tmp_path / "memory.png").stat().st_size > 1000


@pytest.mark.nightly
def test_growth(tmp_path):
    _, written = run("growth", tmp_path)
    for row in written["axes"]:
        assert len(row["values"]) == len(row["median_seconds"]) == 3
        assert math.isfinite(row["fit"]["exponent"]) and row["fit"]["standard_error"] >= 0
    assert (tmp_path / "growth.png").stat().st_size > 1000


@pytest.mark.nightly
@pytest.mark.parametrize("library", CONTESTANTS)
def test_contestant(library):
    """Each has the architecture's number of parameters, and finite results; without XLA and torch.compile.

    In a process of its own, as it is measured: PyTorch's triton aborts a process that has TensorFlow.
    """
    tasks = [
        (case, work, contestants.entries(case, work, [library])[0][1])
        for case in cases.QUICK_CASES.values()
        for work in contestants.COMPARED_WORKS
        if contestants.entries(case, work, [library])
    ]
    assert len(tasks) >= len(contestants.COMPARED_WORKS) and len({variant for *_, variant in tasks}) == 1
    with Worker(library, tasks[0][-1], [task[:2] for task in tasks], seed=0) as worker:
        for i, (case, *_) in enumerate(tasks):
            check_parameters(case, library, worker.starts[i]["parameters"])
            assert worker.starts[i]["items"] == case.batch
            assert worker.turn(0.0, task=i)["calls"] == 1  # its result is finite, or this raises


def test_a_worker_brings_no_tensorflow():
    program = "import sys, benchmarks.worker, benchmarks.contestants; print('tensorflow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


def test_parameters():
    # An ActNorm and two dense layers after a 2 -> 3 one, twice; a head from 4 numbers to 2.
    case = cases.RealNVP(features=4, couplings=2, hidden=3)
    assert expected_parameters(case, "zuko") == 2 * (8 + 9 + 12 + 16) + 10
    with pytest.raises(ValueError, match="99 trainable parameters; wanted 100"):
        check_parameters(case, "zuko", 99)
    # As before with five numbers for a spline of two bins in place of an affine map's two; flowjax has seven.
    case = cases.NeuralSpline(features=4, couplings=2, bins=2, hidden=3)
    assert expected_parameters(case, "zuko") == 2 * (8 + 9 + 12 + 4 * 10) + 10
    assert expected_parameters(case, "flowjax") == 2 * (8 + 9 + 12 + 4 * 14) + 10
    # An ActNorm and dense layers 4 -> 3 -> 3 -> 8.
    case = cases.Autoregressive(features=4, steps=3, hidden=3)
    assert expected_parameters(case, "nflows") == 3 * (8 + 15 + 12 + 32) + 10
    # 4 x 4 squeezed to 2 x 2 x 4: ActNorm, 4 x 4 matrix, 3x3 and 1x1 and 3x3 convolutions; a head from 16 to 10.
    case = cases.Glow(side=4, levels=1, steps=1, hidden=5)
    network = (9 * 2 * 5 + 5) + (5 * 5 + 5) + (9 * 5 * 4 + 4)
    assert expected_parameters(case, "tensorflow_probability") == 8 + 16 + network + 170
    assert expected_parameters(case, "normflows") == 8 + 36 + network + 170


def test_who_takes_part():
    """Images are not for packages of vectors only; autoregressive flows are not sampled, which takes d passes."""
    everybody = list(contestants.VARIANTS)
    names = {
        family: {library for library, _ in contestants.entries(case, "density", everybody)}
        for family, case in cases.QUICK_CASES.items()
    }
    assert names["real_nvp"] == set(everybody)
    assert names["glow"] == set(everybody) - {"nflows", "zuko", "flowjax"}
    assert names["neural_spline"] == names["autoregressive"] == set(everybody) - {"jax"}
    assert contestants.entries(cases.QUICK_CASES["autoregressive"], "sample", everybody) == []


def test_flops():
    case = cases.RealNVP(features=4, couplings=2, hidden=3)
    assert flops.forward_flops(case) == 2 * (2 * (2 * 3 + 3 * 3 + 3 * 4) + 4 * 2)
    case = cases.Glow(side=4, levels=1, steps=1, hidden=5)
    assert flops.forward_flops(case) == 2 * (4 * (4 * 4 + 9 * 2 * 5 + 5 * 5 + 9 * 5 * 4) + 16 * 10)


def test_batches_are_the_same_for_everybody():
    case = cases.QUICK_CASES["real_nvp"]
    for mine, others in zip(
        cases.batches(case, 3), cases.batches(cases.from_json(cases.to_json(case)), 3), strict=True
    ):
        assert mine.shape[:2] == (cases.BATCHES, case.batch)
        np.testing.assert_array_equal(mine, others)


def test_ratios_are_taken_in_pairs():
    """The machine is twice as slow in the second round: no ratio sees it."""
    assert ratio([2.0, 4.0, 2.0], [1.0, 2.0, 4.0]) == {"median": 2.0, "min": 0.5, "max": 2.0, "rounds": [2.0, 2.0, 0.5]}


def test_turns_alternate_after_a_warm_up():
    order = []
    turns = {name: lambda seconds, name=name: order.append(name) or len(order) for name in "ab"}
    assert take_turns(turns, 2, 0.0, lambda: None) == {"a": [3, 5], "b": [4, 6]}
    assert order == list("ababab")


def test_exponent_of_a_power_law():
    values = np.array([2, 4, 8, 16])
    fit = fit_exponent(values, 3 * values**1.5)
    assert fit["exponent"] == pytest.approx(1.5) and fit["seconds_at_1"] == pytest.approx(3)
    assert fit["standard_error"] == pytest.approx(0, abs=1e-9)


def test_standard_error_of_an_exponent():
    values, seconds = np.array([2, 4, 8, 16]), np.array([1.1, 1.9, 4.3, 7.5])
    truth = scipy.stats.linregress(np.log(values), np.log(seconds))
    fit = fit_exponent(values, seconds)
    assert fit["exponent"] == pytest.approx(truth.slope)
    assert fit["standard_error"] == pytest.approx(truth.stderr)


def test_worker_that_fails():
    case = cases.QUICK_CASES["glow"]
    with pytest.raises(WorkerFailed, match="^ModuleNotFoundError: No module named .*nobody"):
        Worker("nobody", "graph", [(case, "step")], seed=0)
    with pytest.raises(WorkerFailed, match="not ready after 0 s"):
        Worker("tfp_hybrid", "graph", [(case, "step")], seed=0, limit=0.05)
