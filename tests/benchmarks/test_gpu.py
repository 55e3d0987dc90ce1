"""prepare, run and finish on a CPU: exact results, a training, and what a line of the results says."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.gpu import fills, part
from benchmarks.gpu import finish as finishing
from benchmarks.gpu.finish import ratios
from benchmarks.gpu.run import Runner

pytestmark = pytest.mark.nightly

jax = pytest.importorskip("jax")
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(real_data, tmp_path_factory):
    """The folders of the bundle, of what `run` wrote and of what `finish` made of it; and `finish`'s output."""
    bundle, written, out = (tmp_path_factory.mktemp("gpu") / name for name in ("bundle", "written", "out"))
    data = ["--data-dir", str(real_data / "tfds")]
    answer = CliRunner().invoke(app, ["gpu", "prepare", str(bundle), "--quick", "--no-wheels", *data])
    assert answer.exit_code == 0, answer.output
    # A file of its own process, with nothing of TensorFlow, Keras or the package at hand.
    blocked = tmp_path_factory.mktemp("blocked")
    for name in ("tensorflow", "keras", "tfp_hybrid", "typer", "rich"):
        (blocked / f"{name}.py").write_text(f"raise ImportError('{name} is not there')\n")
    environment = os.environ | {"PYTHONPATH": str(blocked), "JAX_PLATFORMS": "cpu"}
    parts = ["main", "mnist", "exact", "exact_rest", "ceilings", "real_nvp", "flowjax"]
    command = [sys.executable, "benchmarks/gpu/run.py", str(bundle), str(written), "--seconds", "400", "--only", *parts]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finishing, "FOREIGN", ("not_mnist",))  # the other is large, and takes seconds to read
        answer = CliRunner().invoke(app, ["gpu", "finish", str(bundle), str(written), "--out", str(out), *data])
    assert answer.exit_code == 0, answer.output
    return bundle, part.read(written), json.loads((out / "gpu.json").read_text()), answer.output


def test_modules_agree_with_tensorflow(results):
    _, lines, content, _ = results
    checked = {line["module"]: line for line in lines if line["kind"] == "exactness"}
    assert set(checked) == {"tfp_hybrid.glow_8x8x1_4.step.float32.4", "tfp_hybrid.real_nvp_4_8.step.float32.8"}
    assert all(line["agrees"] and line["way"] == "jax.export" for line in checked.values())
    assert content["exactness"] == list(checked.values())


def test_timings_and_ceilings(results):
    _, lines, content, printed = results
    assert {line["loop"] for line in content["timings"]} == {"scan", "python"}
    assert all(line["seconds"] > 0 and line["compile_s"] > 0 for line in content["timings"])
    names = [line["name"] for line in content["ceilings"]]
    assert names == ["matmul_tf32", "matmul_bfloat16", "matmul_float32_highest", "copy"]
    assert lines[0]["kind"] == "machine" and lines[-1]["kind"] == "end"
    assert "glow_8x8x1_4" in printed


def test_missing_package_is_a_line(results):
    _, lines, _, _ = results
    errors = [line["error"] for line in lines if line["kind"] == "error" and line["part"] == "flowjax"]
    assert all("ModuleNotFoundError" in error for error in errors)


def test_training(results):
    bundle, lines, content, _ = results
    (trained,) = (line for line in lines if line["kind"] == "trained")
    losses = [line["loss"] for line in lines if line["kind"] == "training"]
    assert trained["loop"] == "scan" and trained["steps"] == trained["epochs"] * 16 and losses[-1] < losses[0]
    metrics = content["mnist"]["metrics"]
    assert {"error", "nll", "bits_per_dim"} <= metrics["test"].keys() & metrics["validation"].keys()
    assert {"not_mnist"} == metrics["ood"].keys()
    # The densities that training reported, and those of the Keras model that the weights were put back into.
    reported = [line["bits_per_dim"] for line in lines if line["kind"] == "training"][-1]
    assert metrics["validation"]["bits_per_dim"] == pytest.approx(reported, rel=0.15)
    assert json.loads((bundle / "manifest.json").read_text())["mnist"]["rows"] == 256


def test_dequantization_noise_differs_from_step_to_step(results):
    """The state of the noise is a variable of the module, and every step moves it on."""
    from benchmarks.gpu.bundle import Bundle
    from benchmarks.gpu.program import Program

    bundle = Bundle(results[0])
    entry = bundle.manifest["mnist"]
    (state,) = (i for i, argument in enumerate(entry["arguments"]) if "random_state" in argument["name"])
    values = bundle.values(entry)
    values[entry["learning_rate"]] = np.zeros((), "float32")  # so that nothing else changes the loss
    call = jax.jit(Program(bundle.text(entry)).call)
    first = call(*values)
    values[state] = np.asarray(first[entry["aliases"][str(state)]])
    second = call(*values)
    assert float(first[0]) != float(second[0])
    assert float(first[0]) == pytest.approx(float(second[0]), rel=0.05)


def test_affine_maps_are_those_of_keras():
    from benchmarks.gpu.augmentation import affine

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 9, 9, 2)).astype("float32")
    transforms = np.tile([1.0, 0, 0, 0, 1, 0], (5, 1)) + rng.normal(scale=0.3, size=(5, 6))
    stock = keras.ops.image.affine_transform(
        images, np.pad(transforms, ((0, 0), (0, 2))), interpolation="bilinear", data_format="channels_last"
    )
    np.testing.assert_allclose(affine(images, transforms), stock, atol=1e-2)


def test_augmented_images_are_integers_and_some_are_moved():
    from benchmarks.gpu.augmentation import random_affine

    images = np.random.default_rng(0).integers(0, 256, (200, 8, 8, 1)).astype("float32")
    moved = np.asarray(random_affine(jax.random.key(0), images, 0.25, 2.0))
    assert (moved == np.round(moved)).all() and moved.min() >= 0 and moved.max() <= 255
    assert 0.1 < np.mean((moved != images).any((1, 2, 3))) < 0.4


def test_fills_are_uniform_and_the_same_everywhere():
    values = fills.make(fills.uniform(3, -2.0, 4.0), (100, 200), "float64")
    assert values.min() >= -2 and values.max() < 4
    assert values.mean() == pytest.approx(1, abs=0.05) and values.var() == pytest.approx(3, rel=0.02)
    assert abs(np.corrcoef(values.ravel()[1:], values.ravel()[:-1])[0, 1]) < 0.02
    # SplitMix64's own first outputs for the seed 0, from its reference implementation.
    assert [hex(bits) for bits in fills.split_mix(0, 2).tolist()] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]
    labels = fills.make(fills.integers(1, 10), (1000,), "int32")
    assert set(labels) == set(range(10)) and labels.dtype == np.int32


def test_error_of_digests_estimates_the_relative_error():
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=5000)
    for scale in (1e-6, 1e-2):
        found = wanted + scale * rng.normal(size=5000)
        truth = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        assert truth / 3 < fills.error(fills.digest(found), fills.digest(wanted)) < 3 * truth
    assert fills.error(fills.digest(wanted), fills.digest(wanted)) == 0


def _timing(library, loop, items_per_s, policy="float32"):
    keys = {"model": "glow_8x8x1_4", "work": "step", "batch": 8, "part": "main"}
    return keys | {"library": library, "loop": loop, "items_per_s": items_per_s, "policy": policy}


def test_ratios_are_by_equal_loops():
    rows = [
        _timing("tfp_hybrid", "scan", 30.0),
        _timing("tfp_hybrid", "python", 20.0),
        _timing("tfp_hybrid", "scan", 90.0, policy="mixed_bfloat16"),
        _timing("normflows", "eager", 10.0),
        _timing("flowjax", "scan", 15.0),
    ]
    found = {(row["library"], row["loops"]): row["ours_over"] for row in ratios(rows)}
    assert found == {("normflows", "loop"): 2.0, ("flowjax", "scan"): 2.0}


def test_unequal_loops_are_named_or_left_out():
    ours, scan, eager = (
        _timing("tfp_hybrid", "scan", 30.0),
        _timing("flowjax", "scan", 15.0),
        _timing("zuko", "eager", 5.0),
    )
    found = {(row["library"], row["loops"]): row["ours_over"] for row in ratios([ours, scan, eager])}
    assert found == {("flowjax", "scan"): 2.0, ("zuko", "scan against loop"): 6.0}
    assert not ratios([_timing("tfp_hybrid", "python", 20.0), scan])


def test_metrics_of_the_same_weights_are_kept(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(finishing, "evaluated", lambda *arguments: calls.append(arguments) or {"test": {"error": 0.5}})
    manifest = {"versions": {}, "quick": True, "mnist": {"settings": {}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    np.savez(tmp_path / "stored.npz")
    (tmp_path / "results.jsonl").write_text(json.dumps({"kind": "end"}) + "\n")
    for weights, evaluations in ((b"one", 1), (b"one", 1), (b"two", 2)):
        (tmp_path / "mnist_weights.npz").write_bytes(weights)
        content = finishing.finish(tmp_path, tmp_path, tmp_path / "out")
        assert content["mnist"]["metrics"] == {"test": {"error": 0.5}} and len(calls) == evaluations


def test_late_part_is_ended(tmp_path):
    (tmp_path / "manifest.json").write_text('{"quick": true}')
    np.savez(tmp_path / "stored.npz")
    runner = Runner(tmp_path, tmp_path / "out", seconds=1.0)
    runner.start("slow", "ceilings")
    runner._parts["slow"] = runner._parts["slow"][0], 0.0
    runner.wait("slow")
    runner.close()
    assert [line["kind"] for line in part.read(tmp_path / "out")] == ["started", "ended"]
