"""Estimators with groups and an offset, on simulated rows whose law is known."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.base
import sklearn.model_selection

import tfp_hybrid as hy
from tfp_hybrid.bayes import mixed_design

FAST = {"random_state": 0, "batch_size": 64, "learning_rate": 1e-2, "couplings": 2}
NOISE, SPREAD = 0.5, 2.0
KNOWN, NEW = range(40), range(40, 600)
STANDARD = scipy.stats.norm.ppf((np.arange(40) + 0.5) / 40)  # so that their spread is not up to chance
EFFECTS = SPREAD * np.append(STANDARD, np.random.default_rng(0).normal(size=560))


def rows(count, seed, schools=KNOWN):
    """A table of pupils, and the mean of their responses."""
    rng = np.random.default_rng(seed)
    school = rng.choice(schools, count)
    table = pd.DataFrame({"age": rng.normal(12, 2, count), "school": school, "hours": rng.normal(size=count)})
    mean = 0.5 * (table["age"] - 12) - table["hours"] + EFFECTS[school]
    return table.assign(school=[f"school {number}" for number in school]), mean.to_numpy()


def responses(mean, seed):
    return 7 + mean + NOISE * np.random.default_rng(seed).normal(size=len(mean))


def classes(mean, seed):
    return np.where(np.random.default_rng(seed).logistic(size=len(mean)) < mean, "pass", "fail")


def rmse(regressor, table, y):
    return np.sqrt(np.mean((regressor.predict(table) - y) ** 2))


@pytest.fixture(scope="module")
def regressor():
    table, mean = rows(600, 1)
    return hy.HybridRegressor(**FAST, epochs=40, groups="school").fit(table, responses(mean, 2))


@pytest.fixture(scope="module")
def classifier():
    table, mean = rows(900, 1)
    return hy.HybridClassifier(**FAST, epochs=30, groups=["school"]).fit(table, classes(mean, 2))


def test_errors_are_near_the_noise(regressor):
    table, mean = rows(2000, 3)
    y = responses(mean, 4)
    assert NOISE - 0.03 < rmse(regressor, table, y) < 1.2 * NOISE
    other, other_mean = rows(600, 1)
    without = sklearn.base.clone(regressor).set_params(groups=None)
    without.fit(other.drop(columns="school"), responses(other_mean, 2))
    assert rmse(without, table.drop(columns="school"), y) > 3 * NOISE


def test_effects_and_their_variance_are_found(regressor):
    head = regressor.model_.head
    found = head.effects("school")
    truth = EFFECTS[[int(name.split()[1]) for name in head.groups["school"].levels]]
    assert np.corrcoef(found.mean(), truth)[0, 1] > 0.99
    spread = np.sqrt(head.variance_components()["school"][0, 0])
    assert spread == pytest.approx(truth.std(), rel=0.15)


def test_intervals_hold_their_share(regressor):
    known, mean = rows(2000, 5)
    new, mean_of_new = rows(2000, 6, NEW)
    for table, y in ((known, responses(mean, 7)), (new, responses(mean_of_new, 8))):
        low, high = regressor.predict_interval(table, level=0.8)
        assert 0.7 < np.mean((low < y) & (y < high)) < 0.9
    stddev = [regressor.predict(table, return_std=True)[1] for table in (known, new)]
    assert np.median(stddev[0]) < 1.3 * NOISE and np.median(stddev[1]) > 0.75 * SPREAD


def test_an_unseen_group_has_the_mean_effect(regressor):
    table, _ = rows(5, 9)
    found = regressor.predict(table.assign(school="school 99"))
    head = regressor.model_.head
    of_known = regressor.predict(table.assign(school=head.groups["school"].levels[0]))
    np.testing.assert_allclose(of_known - found, head.effects("school").mean()[0], rtol=1e-6)


def test_groups_have_no_density(regressor):
    table, _ = rows(200, 10)
    shuffled = table.assign(school=table["school"].to_numpy()[::-1])
    np.testing.assert_array_equal(regressor.score_samples(table), regressor.score_samples(shuffled))
    assert regressor.abstains(table).mean() < 0.1 and not regressor.abstains(table.assign(school="new")).all()
    assert regressor.abstains(table.assign(age=900.0)).all()
    assert list(regressor.sample(3, random_state=0)) == ["age", "hours"]
    assert regressor.columns_.names == ("age", "hours")


def test_classes_are_near_the_truth(classifier):
    table, mean = rows(3000, 3)
    y = classes(mean, 4)
    truth = 1 / (1 + np.exp(-mean))
    p = classifier.predict_proba(table)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)
    assert classifier.score(table, y) > np.mean((mean > 0) == (y == "pass")) - 0.05
    nll = -np.log(p[np.arange(len(y)), (y == "pass").astype(int)]).mean()
    assert nll < np.mean(-np.log(np.where(y == "pass", truth, 1 - truth))) + 0.07
    new, mean_of_new = rows(3000, 5, NEW)
    sure = np.abs(p[:, 1] - 0.5).mean() - np.abs(classifier.predict_proba(new)[:, 1] - 0.5).mean()
    assert sure > 0.05 and classifier.score(new, classes(mean_of_new, 6)) > 0.55


def test_pickles_clones_and_columns_in_any_order(regressor, classifier):
    table, _ = rows(20, 11)
    for fitted, answer in ((regressor, "predict"), (classifier, "predict_proba")):
        again = pickle.loads(pickle.dumps(fitted))
        expected = getattr(fitted, answer)(table)
        np.testing.assert_array_equal(getattr(again, answer)(table), expected)
        np.testing.assert_array_equal(getattr(fitted, answer)(table.iloc[:, ::-1]), expected)
        np.testing.assert_array_equal(again.abstains(table), fitted.abstains(table))
        copy = sklearn.base.clone(fitted)
        assert copy.get_params() == fitted.get_params() and not hasattr(copy, "model_")


def test_holes_categories_weights_and_two_groups():
    table, mean = rows(400, 12)
    rng = np.random.default_rng(13)
    teacher = rng.integers(40, 50, 400)
    y = responses(mean + EFFECTS[teacher], 14)
    table = table.assign(
        teacher=teacher, colour=rng.choice(["red", "blue"], 400), age=table["age"].mask(rng.random(400) < 0.2)
    )
    quick = hy.HybridRegressor(**FAST, epochs=20, draws=3, groups=["school", "teacher"])
    weights = np.where(table["colour"] == "red", 2.0, 1.0)
    fitted = quick.fit(table[:300], y[:300], sample_weight=weights[:300])
    assert rmse(fitted, table[300:], y[300:]) < 0.6 * y[300:].std()
    assert sorted(fitted.model_.head.variance_components()) == ["school", "teacher"]
    assert fitted.predict_interval(table[:5]).shape == (2, 5)
    distribution = fitted.predict_distribution(table[:5])
    assert distribution.batch_shape == (5,) and np.isfinite(distribution.log_prob(y[:5])).all()


def test_an_offset_has_no_coefficient():
    table, mean = rows(400, 15)
    table = table.drop(columns="school").assign(base=np.random.default_rng(16).normal(0, 10, 400))
    fitted = hy.HybridRegressor(**FAST, epochs=15, offset="base").fit(table, table["base"] + responses(mean, 17))
    shift = fitted.predict(table.assign(base=table["base"] + 1e4)) - fitted.predict(table)
    np.testing.assert_allclose(shift, 1e4, rtol=1e-5)
    assert fitted.columns_.names == ("age", "hours")


@pytest.mark.integration
def test_cross_validation_takes_groups():
    table, mean = rows(240, 18)
    quick = hy.HybridRegressor(**FAST, epochs=10, groups="school")
    once = [np.split(np.arange(240), [160])]
    assert sklearn.model_selection.cross_val_score(quick, table, responses(mean, 19), cv=once)[0] > 0.5


def test_too_many_levels_leave_what_training_found(monkeypatch):
    table, mean = rows(60, 20)
    monkeypatch.setattr(mixed_design, "MOST_ENTRIES", 10)
    quick = hy.HybridRegressor(**FAST | {"couplings": 1}, epochs=1, groups="school")
    with pytest.warns(UserWarning, match="effects of groups are approximate.*wanted one that is large"):
        fitted = quick.fit(table, responses(mean, 21))
    assert np.isfinite(fitted.predict(table)).all()


TABLE = rows(30, 22)[0]
Y = np.arange(30.0)


@pytest.mark.parametrize(
    ("options", "table", "message"),
    [
        ({"groups": "class"}, TABLE, "groups has 'class', which is not a column of X; wanted one of"),
        ({"groups": {"school": 1}}, TABLE, "groups is {'school': 1}; wanted the name of a column"),
        ({"groups": ["school", "school"]}, TABLE, r"groups is \['school', 'school'\]; .* different names"),
        ({"groups": "school"}, TABLE[["age", "hours"]].to_numpy(), "groups is 'school', but X has no names of columns"),
        ({"groups": "school"}, TABLE.assign(school="a"), "X: 'school' has 1 different ids; wanted 2"),
        ({"groups": "school"}, TABLE.assign(school=[None, *"ab" * 14, "c"]), "'school' is missing .* in row 0"),
        ({"groups": "age"}, TABLE, "X: 'age' holds .* in row 0; wanted integers or strings"),
        ({"groups": "school"}, TABLE[["school"]], r"X has the columns \['school'\] alone"),
        ({"groups": "x"}, TABLE.rename(columns={"school": "x"}), "groups has 'x', which stands for the other columns"),
        ({"groups": "school"}, TABLE.assign(school=range(30), code=range(30)), "is the ids of 'school'"),
        ({"offset": "base"}, TABLE, "offset has 'base', which is not a column of X"),
        ({"offset": "school"}, TABLE, "X: 'school' has dtype .*; wanted real numbers"),
        ({"offset": "school", "groups": "school"}, TABLE, "offset is 'school', which is one of the groups"),
    ],
)
def test_what_cannot_be_groups(options, table, message):
    with pytest.raises(ValueError, match=message):
        hy.HybridRegressor(epochs=1, **options).fit(table, Y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="school"), r"X lacks the columns \['school'\]"),
        (lambda table: table[["age", "hours"]].to_numpy(), r"X is a ndarray; wanted a DataFrame, since \['school'\]"),
        (lambda table: table.assign(school=[None, *table["school"][1:]]), "X: 'school' is missing .* in row 0"),
        (lambda table: table.assign(school=1), "X: 'school' holds 1; wanted strings"),
        (lambda table: table.assign(other=1.0), r"X has the columns \['other'\], which are not known"),
    ],
)
def test_what_cannot_be_predicted(regressor, change, message):
    with pytest.raises(ValueError, match=message):
        regressor.predict(change(TABLE))
