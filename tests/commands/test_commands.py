"""The commands from Python and from the command line: the same answers."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import typer.testing
from helpers import tiny_model

from tfp_hybrid import commands, datasets, files, recipes, strict_json
from tfp_hybrid.cli import app
from tfp_hybrid.uncertainty import Rejector

pytestmark = pytest.mark.integration


def printed(*arguments):
    result = typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As of a run on the simulation, untrained."""
    folder = tmp_path_factory.mktemp("commands")
    dataset = datasets.load("simulation")
    model = recipes.recipe_for(dataset).model(dataset, 1.0)
    model.save(folder / "model.keras")
    Rejector(model).fit_threshold(dataset.validation[0], quantile=0.9).save(folder / "rejector.keras")
    np.savez(folder / "new.npz", x=dataset.test[0][:50] + 1)
    return folder


def test_export_writes_what_it_returns(folder, tmp_path):
    returned = commands.export(folder, out=tmp_path / "served" / "2")
    written = json.loads((tmp_path / "served" / "2" / "signature.json").read_text())
    assert returned == {"path": str(tmp_path / "served" / "2")} | written
    x = datasets.load("simulation").test[0][:50].astype("float32")
    served = tf.saved_model.load(returned["path"]).signatures["serving_default"](x=tf.constant(x))
    assert served.keys() == returned["signatures"]["serving_default"]["outputs"].keys()
    np.savez(tmp_path / "new.npz", x=x)
    table = commands.score(folder, tmp_path / "new.npz")
    for name in ("prediction", "uncertainty", "log_prob_x"):
        np.testing.assert_allclose(served[name], table[name], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(served["abstain"], table["abstain"])


def test_export_to_formats(folder, tmp_path):
    result = typer.testing.CliRunner().invoke(app, ["export", str(folder), "--format", "tflite"])
    assert result.exit_code == 1 and "wanted one of saved_model, onnx, litert" in result.stderr.replace("\n", " ")


@pytest.mark.nightly
def test_export_to_onnx(folder, tmp_path):
    """What ONNX lacks is said in one line, and nothing is written."""
    pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")
    result = typer.testing.CliRunner().invoke(app, ["export", str(folder), "--format", "onnx"])
    assert result.exit_code == 1 and "LowerBound" in result.stderr and not (folder / "model.onnx").exists()
    tiny_model(couplings=1).save(tmp_path / "model.keras")
    printed("export", tmp_path, "--format", "onnx")
    assert {path.name for path in tmp_path.iterdir()} == {"model.keras", "model.onnx"}


def test_evaluate_returns_what_is_printed(folder):
    returned = commands.evaluate(folder, "simulation", ood=["noise", "shuffled"])
    assert returned.keys() == {"test", "score", "ood", "scores"} and returned["ood"].keys() == {"noise", "shuffled"}
    shown = printed("evaluate", folder, "simulation", "--ood", "noise", "--ood", "shuffled", "--json")
    assert json.loads(shown) == json.loads(strict_json.dumps(returned))


def test_drift_returns_what_is_printed(folder):
    returned = commands.drift(folder, folder / "new.npz", significance=0.01)
    assert returned["rows"] == 50 and [test["name"] for test in returned["tests"]] == ["KS", "typicality"]
    shown = printed("drift", folder, folder / "new.npz", "--significance", "0.01", "--json")
    assert json.loads(shown) == json.loads(strict_json.dumps(returned))


def test_drift_from_a_reference_returns_what_is_printed(folder, tmp_path):
    x = datasets.load("simulation").validation[0]
    np.savez(tmp_path / "reference.npz", x=x[:-50])
    np.savez(tmp_path / "same.npz", x=x[-50:])
    returned = commands.drift(folder, folder / "new.npz", reference=tmp_path / "reference.npz")
    assert returned["drifted"] and returned["p_value"] == min(test["corrected_p_value"] for test in returned["tests"])
    assert (returned["rows"], returned["reference_rows"]) == (50, len(x) - 50)
    assert [column["drifted"] for column in returned["columns"]] == [True]
    arguments = ("drift", folder, folder / "new.npz", "--reference", tmp_path / "reference.npz")
    assert json.loads(printed(*arguments, "--json")) == json.loads(strict_json.dumps(returned))
    shown = printed(*arguments, "--classifier", "--picture", tmp_path / "drift.svg")
    assert "x and z: AUC" in shown and "Drift: p-value" in shown and "Cliff" in (tmp_path / "drift.svg").read_text()
    same = commands.drift(folder, tmp_path / "same.npz", reference=tmp_path / "reference.npz")
    assert same["p_value"] > 0.01


def test_score_returns_what_is_printed_and_written(folder, tmp_path):
    returned = commands.score(folder, folder / "new.npz", abstain_below=20)
    assert 0 < returned["abstain"].mean() < 1
    shown = pd.read_csv(io.StringIO(printed("score", folder, folder / "new.npz", "--abstain-below", "20")))
    pd.testing.assert_frame_equal(shown, returned, check_dtype=False, rtol=1e-5)
    out = tmp_path / "scores.parquet"
    assert printed("score", folder, folder / "new.npz", "--abstain-below", "20", "--out", out) == ""
    pd.testing.assert_frame_equal(pd.read_parquet(out), returned)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda folder: commands.evaluate(folder, "imagenet"), "data set 'imagenet' is unknown"),
        (lambda folder: commands.evaluate(folder / "absent", "simulation"), "There is no model"),
        (lambda folder: commands.score(folder, folder / "new.npz", abstain_below=101), "is 101; wanted a percentile"),
        (lambda folder: commands.score(folder, folder / "new.npz", out="scores.txt"), "wanted .csv or .parquet"),
        (lambda folder: commands.drift(folder, folder / "new.npz", significance=2), "is 2; wanted a rate"),
        (lambda folder: commands.drift(folder, folder / "absent.npz"), "absent.npz does not exist"),
        (lambda folder: commands.drift(folder, folder / "new.npz", classifier=True), "--classifier needs --reference"),
        (
            lambda folder: commands.drift(folder, folder / "new.npz", reference=folder / "new.npz"),
            "x_reference has 50 rows; wanted at least 100",
        ),
    ],
)
def test_bad_arguments_are_value_errors(folder, call, message):
    with pytest.raises(ValueError, match=message):
        call(folder)


@pytest.mark.parametrize("name", ["scores.csv", "drift.png"])
def test_an_interruption_keeps_the_old_file(folder, tmp_path, monkeypatch, name):
    (tmp_path / name).write_text("old")

    def killed(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        if name == "scores.csv":
            commands.score(folder, folder / "new.npz", out=tmp_path / name)
        else:
            commands.drift(folder, folder / "new.npz", picture=tmp_path / name)
    assert (tmp_path / name).read_text() == "old" and len(list(tmp_path.iterdir())) == 1
