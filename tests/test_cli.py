import json

import numpy as np
import pandas as pd
import pytest
import typer.testing

from tfp_hybrid import datasets
from tfp_hybrid.cli import app


def invoke(*arguments):
    return typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    result = invoke("train", "simulation", "--out", out, "--epochs", 2, "--generative-weight", 0.5, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert "rmse" in result.output and "report.html" in result.output
    return out


def test_train_follows_its_options(folder):
    config = json.loads((folder / "metrics.json").read_text())["config"]
    assert (config["epochs"], config["generative_weight"], config["seed"]) == (2, 0.5, 3)


def test_evaluate_prints_the_metrics_that_train_wrote(folder):
    result = invoke("evaluate", folder, "simulation", "--ood", "noise", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    written = json.loads((folder / "metrics.json").read_text())
    assert printed["test"] == pytest.approx(written["test"], rel=1e-5)
    for name in ("auroc", "fpr95", "entropy"):
        assert printed["ood"]["noise"][name] == pytest.approx(written["ood"]["noise"][name], rel=1e-5)


def test_score_prints_a_row_for_each_input(folder, tmp_path):
    x = datasets.load("simulation").test[0][:20]
    far = np.r_[x, [[1e4]]].astype("float32")
    np.savez(tmp_path / "rows.npz", x=far)
    result = invoke("score", folder, tmp_path / "rows.npz", "--out", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "scores.csv")
    assert list(table) == ["prediction", "uncertainty", "log_prob_x", "percentile", "abstain"]
    assert len(table) == 21
    assert table["abstain"].iloc[-1] and table["percentile"].iloc[-1] == 0
    assert not table["abstain"].iloc[:20].all()


@pytest.mark.parametrize("command", ["train", "evaluate", "score"])
def test_help_has_examples(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0 and "Examples" in result.output and f"tfp-hybrid {command}" in result.output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("train", "imagenet", "--out", "OUT"), "imagenet"),
        (("train", "digits", "--out", "OUT", "--epochs", "0"), "--epochs is 0"),
        (("evaluate", "OUT", "digits"), "There is no model"),
        (("score", "OUT", "rows.npz"), "There is no model"),
    ],
)
def test_mistakes_are_one_line_and_status_1(arguments, message, tmp_path):
    arguments = [str(tmp_path / "out") if argument == "OUT" else argument for argument in arguments]
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr and "Traceback" not in result.output


def test_evaluating_on_data_of_another_shape_is_explained(folder):
    result = invoke("evaluate", folder, "digits")
    assert result.exit_code == 1 and "wanted ('n', 1)" in " ".join(result.stderr.split())
