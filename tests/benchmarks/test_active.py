"""Active learning of images, with hardly any training."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app


@pytest.mark.nightly
def test_it_resumes_and_reports(tmp_path):
    command = ["active", "--out", str(tmp_path), "--seeds", "1", "--only", "digits", "--quick"]
    assert CliRunner().invoke(app, command).exit_code == 0
    table = pd.read_csv(tmp_path / "active.csv")
    assert set(table["labels"]) == {10, 20, 30} and table["query"].nunique() == 5 and len(table) == 15
    assert (table.groupby("labels")["error"].max() > 0.05).all()
    report = (tmp_path / "active.md").read_text()
    assert "| Margin | " in report and "| logistic regression, Random | " in report and "MNIST" not in report
    assert (tmp_path / "active_digits.png").exists()
    (tmp_path / "active.md").unlink()
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "Margin" not in result.output
    assert (tmp_path / "active.md").read_text() == report


@pytest.mark.nightly
def test_mnist(tmp_path):
    command = ["active", "--out", str(tmp_path), "--seeds", "1", "--only", "mnist", "--quick"]
    assert CliRunner().invoke(app, command).exit_code == 0
    table = pd.read_csv(tmp_path / "active.csv")
    assert set(table["labels"]) == {20, 40, 60} and table["query"].nunique() == 5
    assert "MNIST: the pool is 10,000" in (tmp_path / "active.md").read_text()


def test_an_unknown_problem_is_named(tmp_path):
    result = CliRunner().invoke(app, ["active", "--out", str(tmp_path), "--only", "cifar"])
    assert result.exit_code == 2 and "wanted one of digits, mnist" in " ".join(result.output.replace("│", " ").split())
