"""The UCI experiment, with hardly any training; what its models make of columns and of splits; its report."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from benchmarks.uci_data import SPLITS, Table
from paper import uci, uci_models
from paper.__main__ import app

SETS = ("yacht", "wine-quality-red", "protein-tertiary-structure")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of made-up sets, of which wine has integers from 3 to 8 as y."""
    root, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    for name in SPLITS:
        folder = root / name / "data"
        folder.mkdir(parents=True)
        x = rng.normal(size=(60, 2))
        y = 5 + 3 * x[:, 0] + 0.3 * rng.normal(size=60)
        np.savetxt(folder / "data.txt", np.column_stack([x, np.clip(np.rint(y), 3, 8) if name == uci.SCORES else y]))
        np.savetxt(folder / "index_features.txt", range(2))
        np.savetxt(folder / "index_target.txt", [2])
        np.savetxt(folder / "index_train_0.txt", range(50))
        np.savetxt(folder / "index_test_0.txt", range(50, 60))
    return root


def test_ramps_are_those_of_a_cumulative_distribution():
    x = np.random.default_rng(0).normal(size=(400, 3)).astype("float32")
    x[:, 1] = np.rint(x[:, 1])  # few values
    x[:, 2] = 0.0  # one value
    ramps = uci_models.Ramps(8)
    ramps(x)
    ramps.adapt(x)
    found = ramps(x).numpy()
    assert found.shape == (400, 3, 8) and found.min() == 0 and found.max() == 1 and np.isfinite(found).all()
    edges = np.quantile(x[:, 0], np.linspace(0, 1, 9))
    np.testing.assert_allclose(found[:, 0].sum(-1), np.interp(x[:, 0], edges, np.arange(9)), atol=1e-4)
    values = np.unique(x[:, 1])
    assert len(np.unique(found[:, 1].sum(-1).round(3))) == len(values), "told apart, however rare"
    assert (ramps(np.full((1, 3), 99.0)).numpy()[0] == 1).all() and not ramps(np.full((1, 3), -99.0)).numpy().any()


def test_members_are_fitted_without_other_rows_and_their_densities_are_averaged(monkeypatch):
    """A stand-in for the fits: member k says that y has the density k + 1, whatever x."""
    seen = []

    class Trainer:
        def __init__(self, make, seeds, *args):
            assert seeds == [3, 4]

        def train(self, rows, held_out, member, rng, prepare):
            seen.append((rows[1], held_out[1]))

        def distribution(self, x):
            density = len(seen)
            return type("Density", (), {"log_prob": lambda self, y: np.log(density) + 0 * y})()

    monkeypatch.setattr(uci_models, "Trainer", Trainer)
    monkeypatch.setattr(uci_models, "ROWS_AT_ONCE", 7)
    learner = uci_models.Learner(1, uci_models.mixture, uci_models.QUICK_SIZE, seed=3)
    x, y = np.zeros((20, 1), "float32"), np.arange(20.0)
    log_prob = learner.log_prob((x, y), (x, y), seed=0)
    np.testing.assert_allclose(log_prob, np.full(20, np.log(1.5)))
    assert [len(held_out) for _, held_out in seen] == [4, 4]
    for rows, held_out in seen:
        assert sorted([*rows, *held_out]) == list(y)
    assert not set(seen[0][1]) & set(seen[1][1])


def test_large_sets_get_the_large_network_and_as_many_epochs():
    assert uci_models.size_for(5000) == uci_models.SMALL_SIZE
    for rows in (5001, 45_730):
        size = uci_models.size_for(rows)
        assert size.width > uci_models.SMALL_SIZE.width
        assert size.steps * size.batch / rows == pytest.approx(uci_models.EPOCHS, rel=0.05)
        assert size.steps % uci_models.STEPS_BETWEEN_CHECKS == 0
    assert uci_models.size_for(50_000, quick=True) == uci_models.QUICK_SIZE


@pytest.mark.integration
def test_a_fit_of_a_mixture_finds_the_noise():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 2)).astype("float32")
    y = (np.sin(2 * x[:, 0]) + 0.1 * rng.normal(size=400)).astype("float32")
    learner = uci_models.Learner(2, uci_models.mixture, uci_models.SMALL_SIZE, seed=0)
    nll = -learner.log_prob((x[:300], y[:300]), (x[300:], y[300:]), seed=0).mean()
    noise = 0.5 * np.log(2 * np.pi * np.e * 0.1**2)  # -0.88; a Normal of y alone has 1.1
    assert noise - 0.2 < nll < noise + 0.7


@pytest.mark.integration
def test_the_same_fit_again_gives_the_same():
    """Initial weights, edges, the optimizer's moments and the draws of the dropout are those of the first fit."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 60, 2)).astype("float32")
    y, other = y[:, 0], rng.normal(size=(60, 2)).astype("float32")
    learner = uci_models.Learner(2, uci_models.mixture, uci_models.QUICK_SIZE, seed=0)
    first = learner.log_prob((x, y), (x, y), seed=5)
    assert (learner.log_prob((other, y), (x, y), seed=5) != first).any()
    np.testing.assert_array_equal(learner.log_prob((x, y), (x, y), seed=5), first)


def test_nll_is_of_y_in_its_own_unit_and_of_scores_a_probability(folder):
    """A stand-in for the models: a standard normal, and the frequencies 1/6 of six scores."""

    class Learner:
        def log_prob(self, train, test, seed):
            y = test[1]
            if np.issubdtype(y.dtype, np.integer):
                assert set(np.unique(train[1])) <= set(range(6))
                return np.full(len(y), -np.log(6))
            return -0.5 * y**2 - 0.5 * np.log(2 * np.pi)

    split = Table(folder, "yacht").split(0, None, seed=0)
    y = np.loadtxt(folder / "yacht" / "data" / "data.txt")[:, 2]
    mean, stddev = y[:50].mean(), y[:50].std()
    wanted = -0.5 * ((y[50:] - mean) / stddev) ** 2 - np.log(stddev) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(uci._log_prob(Learner(), "yacht", split, 0), wanted, atol=1e-4)
    split = Table(folder, uci.SCORES).split(0, None, seed=0)
    np.testing.assert_allclose(uci._log_prob(Learner(), uci.SCORES, split, 0), -np.log(6))


def test_report_has_means_errors_and_published_figures():
    rows = [("yacht", split, nll, 31, 60.0) for split, nll in enumerate((1.0, 2.0, 3.0))]
    rows += [("bostonHousing", 0, 2.5, 51, 60.0), ("power-plant", 0, 2.7, 9, 1.0), (uci.SCORES, 0, 0.8, 9, 1.0)]
    text = uci.report(pd.DataFrame(rows, columns=uci.COLUMNS), "two cores")
    lines = text.splitlines()
    assert "| bostonHousing | 1 of 20 | 2.500 | *2.41* | - |" in lines
    assert "| yacht | 3 of 20 | 2.000 ± 0.577 | *1.18* | - |" in lines
    assert lines.index(next(line for line in lines if "| boston" in line)) < lines.index(
        next(line for line in lines if "| yacht" in line)
    )
    assert (
        "* deep ensembles: below on 1 of 3; above by more than a standard error on 2 (bostonHousing, yacht)." in lines
    )
    assert "* TreeFlow: below on 0 of 1; above by more than a standard error on 1 (power-plant)." in lines
    assert "two cores; the splits took 4 minutes" in text and "second-hand" in text and "trial run" not in text


def test_unknown_and_missing_sets_are_named(tmp_path):
    result = CliRunner().invoke(app, ["uci", "--only", "yach", "--out", str(tmp_path)])
    assert result.exit_code == 1 and "'yach' is unknown; wanted one of" in " ".join(result.output.split())
    result = CliRunner().invoke(app, ["uci", "--out", str(tmp_path), "--data-dir", str(tmp_path)])
    assert result.exit_code == 1 and "bostonHousing is not in" in " ".join(result.output.split())


@pytest.mark.nightly
def test_it_resumes_and_draws(folder, tmp_path):
    command = ["uci", "--quick", "--out", str(tmp_path), "--data-dir", str(folder)]
    command += [part for name in SETS for part in ("--only", name)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "uci" / "uci.csv")
    assert sorted(table["set"]) == sorted(SETS) and np.isfinite(table["nll"]).all()
    assert "(a trial run, without significance)" in (tmp_path / "uci" / "uci.md").read_text()
    assert (tmp_path / "uci" / "protein.png").stat().st_size > 10_000
    table[table["set"] != "yacht"].to_csv(tmp_path / "uci" / "uci.csv", index=False)
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0 and "yacht" in result.output and "wine" not in result.output
    assert len(pd.read_csv(tmp_path / "uci" / "uci.csv")) == len(SETS)
