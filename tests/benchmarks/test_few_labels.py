"""Few labels, with hardly any training."""

import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app


def test_moons(tmp_path):
    command = ["few-labels", "--out", str(tmp_path), "--seeds", "1", "--only", "moons", "--quick"]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert len(pd.read_csv(tmp_path / "few_labels.csv")) == 3
    assert "| 10 | hybrid model | " in (tmp_path / "few_labels.md").read_text()


@pytest.mark.nightly
def test_it_resumes_and_reports(tmp_path):
    command = ["few-labels", "--out", str(tmp_path), "--seeds", "2", "--only", "digits", "--quick"]
    assert CliRunner().invoke(app, command).exit_code == 0
    table = pd.read_csv(tmp_path / "few_labels.csv")
    assert set(table["labels"]) == {100, 50} and table["method"].nunique() == 3 and len(table) == 12
    errors = table.groupby("method")["error"].mean()
    assert errors["label spreading"] < 0.2 and (errors < 0.95).all()
    report = (tmp_path / "few_labels.md").read_text()
    assert "| 50 | label spreading | " in report and "| 100 | labels alone | " in report
    (tmp_path / "few_labels.md").unlink()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / "few_labels.md").read_text() == report


def test_an_unknown_problem_is_named(tmp_path):
    result = CliRunner().invoke(app, ["few-labels", "--out", str(tmp_path), "--only", "cifar"])
    assert result.exit_code == 2 and "wanted one of digits, moons" in " ".join(result.output.replace("│", " ").split())
