"""The benchmark on sets of UCI, with hardly any training, and what it makes of a set."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks import uci_models
from benchmarks.__main__ import app
from benchmarks.uci import report
from benchmarks.uci_data import PUBLISHED, Table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of made-up sets: three columns, of which the second is constant and the third in the training rows."""
    root = tmp_path_factory.mktemp("sets")
    rng = np.random.default_rng(0)
    for name in PUBLISHED:
        folder = root / name / "data"
        folder.mkdir(parents=True)
        x = np.stack([rng.normal(size=60), np.full(60, 7.1), np.repeat([0.0, 1.0], [50, 10]), rng.normal(size=60)], 1)
        np.savetxt(folder / "data.txt", np.column_stack([x, 5 + 3 * x[:, 0] + 0.3 * rng.normal(size=60)]))
        np.savetxt(folder / "index_features.txt", range(4))
        np.savetxt(folder / "index_target.txt", [4])
        np.savetxt(folder / "index_train_0.txt", range(50))
        np.savetxt(folder / "index_test_0.txt", range(50, 60))
    return root


def test_constant_columns_are_no_nan(folder):
    split = Table(folder, "yacht").split(0, None, seed=0)
    (x, y), (test_x, _) = split.train, split.test
    assert x.shape == (50, 3) and np.isfinite(x).all() and np.isfinite(test_x).all()
    np.testing.assert_allclose(x[:, [0, 2]].std(0), 1, rtol=1e-5)
    assert not x[:, 1].any() and not test_x[:, 1].any()
    assert abs(y.mean()) < 1e-5 and y.std() == pytest.approx(1, rel=1e-5)


def test_few_rows_are_the_first_of_all(folder):
    table = Table(folder, "yacht")
    every, few = table.split(0, None, seed=3), table.split(0, 20, seed=3)
    y, first = every.train[1] * every.unit, few.train[1] * few.unit
    np.testing.assert_allclose(np.diff(y[:20]), np.diff(first), rtol=1e-3, atol=1e-3)
    assert len(few.test[1]) == len(every.test[1]) == 10


def test_ridge_scores_are_those_of_y_as_given(folder):
    log_likelihood, rmse = uci_models.ridge(Table(folder, "yacht").split(0, None, seed=0))
    assert 0.2 < rmse < 0.45
    assert log_likelihood == pytest.approx(-0.5 * np.log(2 * np.pi * 0.3**2) - 0.5 * (rmse / 0.3) ** 2, abs=0.1)


def test_report_counts_what_holds():
    rows = []
    for number, name in enumerate(PUBLISHED):
        for few in ("all", "100"):
            for split in range(2):
                gain = {0: -0.2, 1: 0.04}.get(number, 0.1)
                point = PUBLISHED[name] - 0.05
                found = {uci_models.POSTERIOR: point + gain, uci_models.POINT: point, uci_models.RIDGE: -9.0}
                rows += [(0, name, split, few, model, value, 1.0, 2.0) for model, value in found.items()]
    columns = ["seed", "set", "split", "rows", "model", "log_likelihood", "rmse", "seconds"]
    text = report(pd.DataFrame(rows, columns=columns), seed=0, machines="two cores")
    assert "above the published MC dropout on 7 of 9" in text and "--seed 0`, two cores; the fits took" in text
    assert "above the point head on 7 of 9" in text
    assert "standard error on 1 of 9 (bostonHousing)" in text and "0 of 2" in text and "2 of 2" in text


def test_missing_sets_are_named(tmp_path):
    result = CliRunner().invoke(app, ["uci", "--out", str(tmp_path), "--data", str(tmp_path)])
    assert result.exit_code == 2 and "bostonHousing" in result.output


@pytest.mark.nightly
def test_it_resumes_and_reports(tmp_path, real_data):
    if not (real_data / "uci").is_dir():
        pytest.skip(f"no data: {real_data / 'uci'} does not exist")
    command = ["uci", "--out", str(tmp_path), "--data", str(real_data / "uci"), "--splits", "1", "--quick"]
    assert CliRunner().invoke(app, command).exit_code == 0
    table = pd.read_csv(tmp_path / "uci.csv")
    assert len(table) == 9 * 2 * 3 and table["set"].nunique() == 9 and np.isfinite(table["log_likelihood"]).all()
    table[table["set"] != "yacht"].to_csv(tmp_path / "uci.csv", index=False)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "yacht" in result.output and "energy" not in result.output
    assert len(pd.read_csv(tmp_path / "uci.csv")) == len(table)
    assert "| yacht | 1 |" in (tmp_path / "uci.md").read_text()
