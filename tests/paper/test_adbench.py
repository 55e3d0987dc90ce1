"""The one-class benchmark: how rows are divided, the scores of the peers, and a quick run from the command line."""

import json

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from typer.testing import CliRunner

from paper import adbench, adbench_data, adbench_methods, results
from paper.__main__ import app
from paper.adbench_data import Split
from paper.results import Result


def some_rows(count=60, copies=20):
    """Normal rows, of which the first `copies` are equal, with a constant third column; and five anomalies."""
    rng = np.random.default_rng(0)
    normal = np.c_[rng.normal(size=(count, 2)) * [1, 100] + 5, np.full(count, 7.0)]
    normal[:copies] = normal[0]
    return np.r_[normal, normal[-5:] + 50], np.repeat([False, True], [count, 5])


def test_no_normal_test_row_is_a_training_row_and_equal_rows_stay_together():
    x, anomalous = some_rows()
    for seed in range(5):
        split = adbench_data.split(x, anomalous, seed, 1000, 1000)
        train, test = ({tuple(row) for row in rows} for rows in (split.train, split.test))
        assert not train & test
        assert len(train | test) == 41 and len(split.train) + len(split.test) == 60
        assert 30 <= len(split.train) < 50, "half of the rows, and at most 19 more that are equal to one of them"
        assert len(split.anomalies) == 5


def test_rows_are_standardized_by_the_training_rows():
    x, anomalous = some_rows()
    split = adbench_data.split(x, anomalous, 0, 1000, 1000)
    assert split.train.shape[1] == split.test.shape[1] == split.anomalies.shape[1] == 2, "the third is constant"
    np.testing.assert_allclose(split.train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(split.train.std(0), 1, rtol=1e-5)
    factor = np.ptp(split.anomalies, axis=0) / np.ptp(x[anomalous, :2], axis=0)
    rows = np.r_[split.train, split.test] / factor
    np.testing.assert_allclose(np.ptp(rows, axis=0), np.ptp(x[~anomalous, :2], axis=0), rtol=1e-4)
    assert not split.units.any(), "no integers"


def test_fewer_rows_are_some_of_all():
    x, anomalous = some_rows(copies=1)
    all_rows, some = (adbench_data.split(x, anomalous, 3, *most) for most in ((100, 100), (20, 10)))
    assert [len(rows) for rows in (all_rows.train, all_rows.test)] == [30, 30]
    assert [len(rows) for rows in (some.train, some.test, some.anomalies)] == [20, 10, 5]
    other = adbench_data.split(x, anomalous, 4, 100, 100)
    assert not np.array_equal(other.train, all_rows.train), "each seed divides anew"


def test_a_step_of_integers_is_known():
    rng = np.random.default_rng(0)
    x, anomalous = rng.integers(0, 9, (80, 2)).astype(float), np.arange(80) > 70
    split = adbench_data.split(x, anomalous, 0, 100, 100)
    steps = np.diff(np.unique(split.train[:, 0]))
    np.testing.assert_allclose(steps / split.units[0], np.round(steps / split.units[0]), atol=1e-5)
    assert np.isclose(steps.min(), split.units[0], rtol=1e-4)


def test_scores_of_the_peers_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    train, test, anomalies = (rng.normal(size=(count, 3)).astype("float32") for count in (50, 20, 10))
    split = Split(train, test, 3 * anomalies, np.zeros(3))
    found = adbench_methods.peers(split, seed=0)
    distances = np.sort(np.linalg.norm(split.anomalies[:, np.newaxis] - train, axis=-1), axis=1)[:, :5]
    np.testing.assert_allclose(found[adbench_methods.NEIGHBOUR][1], distances[:, 4], rtol=1e-4)
    np.testing.assert_allclose(found[adbench_methods.NEIGHBOURS][1], distances.mean(1), rtol=1e-4)
    centered = train - train.mean(0)
    variances, directions = np.linalg.eigh(centered.T @ centered)
    kept = int(np.argmax(np.cumsum(variances[::-1]) > 0.9 * variances.sum())) + 1
    left = directions[:, : 3 - kept]
    errors = np.square((test - train.mean(0)) @ left).sum(1)
    np.testing.assert_allclose(found[adbench_methods.COMPONENTS][0], errors, rtol=1e-3, atol=1e-6)
    for method, (inside, outside) in found.items():
        assert inside.shape == (20,) and outside.shape == (10,), method
        if method != adbench_methods.COMPONENTS:
            assert np.median(outside) > np.median(inside), f"{method}: higher for anomalies"


@pytest.mark.integration
def test_the_density_is_that_of_rows_with_noise():
    """The rows lie on a line; with noise of standard deviation s, their density is a Normal with known covariance."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1)).repeat(2, axis=1).astype("float32")
    apart = x[:50] + np.array([1, -1], "float32")
    split = Split(x[:2000], x[2000:2050], apart, np.zeros(2))
    flow = adbench_methods.Flow(2, quick=True)
    flow.fit(split, seed=0)
    scores = flow.scores(split)
    truth = multivariate_normal(cov=np.ones((2, 2)) + adbench_methods.NOISE**2 * np.eye(2))
    found = -scores[adbench_methods.FLOW][0]
    assert np.abs(found - truth.logpdf(split.test)).mean() < 0.3
    for inside, outside in scores.values():
        assert outside.min() > inside.max(), "20 standard deviations of the noise from the line"


@pytest.mark.integration
def test_a_quick_run_keeps_each_set_and_resumes(tmp_path):
    x, anomalous = some_rows()
    np.savez(tmp_path / "40_vowels.npz", X=x, y=anomalous.astype(int))
    arguments = ["adbench", "--quick", "--only", "vowels", "--out", str(tmp_path / "out"), "--data-dir", str(tmp_path)]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0 and "adbench is not shown yet, because it lacks ALOI" in first.output, first.output
    path = tmp_path / "out" / "adbench" / "vowels.json"
    kept = path.read_text()
    metrics = json.loads(kept)["metrics"]
    assert metrics["auroc"].keys() == set(adbench.METHODS) and metrics["rows"]["anomalies"] == [5]
    assert metrics["auroc"][adbench_methods.NEIGHBOUR] == [1.0], "50 standard deviations away"
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0 and "1 of " not in again.output and path.read_text() == kept


def test_missing_files_are_named(tmp_path):
    arguments = ["adbench", "--quick", "--only", "vowels", "--out", str(tmp_path), "--data-dir", "nowhere"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "--data-dir nowhere has no 40_vowels.npz; wanted the files of" in " ".join(result.output.split())


def test_the_table_shows_every_set_and_the_means_over_them():
    rng = np.random.default_rng(0)
    auroc = {name: {method: rng.uniform(0.4, 1, 3).tolist() for method in adbench.METHODS} for name in adbench.NEEDED}
    sizes = {"train": [500] * 3, "test": [500] * 3, "anomalies": [1234] * 3, "columns": [9] * 3}
    kept = {
        name: Result(name, "a test", {}, {"auroc": auroc[name], "rows": sizes}, 60.0, {}) for name in adbench.NEEDED
    }
    (table,) = adbench.tables(kept)
    *rows, (title, _, means) = table.rows
    assert [row[0] for row in rows] == list(adbench_data.SETS) and title == "mean of the sets"
    assert all(len(cells) == len(table.columns) for _, _, cells in table.rows)
    flow = np.array([found[adbench_methods.FLOW] for found in auroc.values()])
    assert means[3] == f"{flow.mean():.3f} ± {flow.mean(0).std(ddof=1):.3f}"
    forest = np.array([found[adbench_methods.FOREST] for found in auroc.values()])
    above = int((flow.mean(1) > forest.mean(1)).sum())
    assert f"{above} (IsolationForest)" in table.note and "took 20 minutes" in table.note
    (figure, _) = adbench.pictures(kept)["adbench"]
    lines = figure.axes[0].get_lines()
    assert len(lines) == len(adbench.METHODS) and all(len(line.get_xdata()) == 20 for line in lines)


def test_results_of_all_sets_are_needed():
    assert adbench.NEEDED == set(adbench.jobs(results.Place("unused", "a test"))) and len(adbench.NEEDED) == 20
