"""scikit-learn's estimators, by scikit-learn's own checks, closed forms and its other estimators."""

import pickle

import numpy as np
import pandas as pd
import pytest
import skactiveml.classifier
import skactiveml.pool
import sklearn.base
import sklearn.calibration
import sklearn.datasets
import sklearn.discriminant_analysis
import sklearn.linear_model
import sklearn.model_selection
import sklearn.pipeline
import sklearn.preprocessing
from helpers import mvn_log_prob
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

import tfp_hybrid as hy

RNG = np.random.default_rng(0)
FAST = {"random_state": 0, "batch_size": 64, "learning_rate": 1e-2}
ESTIMATORS = hy.DensityEstimator, hy.HybridClassifier, hy.HybridRegressor
STOCHASTIC = "batches are drawn at random, so a weight of 2 is not the same as a row that stands twice"


def blobs(rows=600):
    """Three classes with names, and two columns."""
    codes = np.random.default_rng(1).integers(3, size=rows)
    x = np.random.default_rng(2).normal(size=(rows, 2)) @ [[1.0, 0.3], [0.0, 0.6]] + 2.5 * np.eye(3, 2)[codes]
    return x, np.array(["cat", "dog", "eel"])[codes]


@pytest.fixture(scope="module")
def classifier():
    return hy.HybridClassifier(**FAST, epochs=30).fit(*blobs())


def test_classes_are_those_of_discriminant_analysis(classifier):
    x, y = blobs(2000)
    wanted = sklearn.discriminant_analysis.LinearDiscriminantAnalysis().fit(x, y)
    assert classifier.score(x, y) > wanted.score(x, y) - 0.02
    assert classifier.classes_.tolist() == ["cat", "dog", "eel"]
    probabilities = classifier.predict_proba(x)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert (classifier.classes_[probabilities.argmax(1)] == classifier.predict(x)).all()


def test_rows_from_elsewhere_are_abstained_on(classifier):
    x, _ = blobs()
    assert classifier.abstains(x + [30.0, -30.0]).all()
    assert 0 < classifier.abstains(x).mean() < 0.08
    np.testing.assert_allclose(classifier.score_samples(x), classifier.model_.log_prob(x))
    assert isinstance(classifier.model_, hy.HybridModel)


def test_the_density_is_a_density():
    x = np.r_[RNG.normal(-2, 0.5, 700), RNG.normal(1, 1.0, 700)][:, None]
    density = hy.DensityEstimator(**FAST, epochs=30).fit(x)
    grid = np.linspace(-8, 8, 4001)[:, None]
    p = np.exp(density.score_samples(grid))
    np.testing.assert_allclose(np.trapezoid(p, grid[:, 0]), 1, atol=1e-3)
    truth = 0.5 * np.exp(-2 * (grid + 2) ** 2) / 0.5 + 0.5 * np.exp(-0.5 * (grid - 1) ** 2)
    entropy_gap = np.trapezoid(truth[:, 0] / np.sqrt(2 * np.pi) * -np.log(np.maximum(p, 1e-12)), grid[:, 0])
    held_out = np.r_[RNG.normal(-2, 0.5, 5000), RNG.normal(1, 1.0, 5000)][:, None]
    assert abs(density.score(held_out) + entropy_gap) < 0.05
    assert (density.predict(x) == -1).mean() == pytest.approx(0.05, abs=0.01)


def test_gaussian_columns():
    covariance = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.5], [0.0, -0.5, 0.5]])
    x = RNG.multivariate_normal([1.0, 100.0, -3.0], covariance, 3000)
    density = hy.DensityEstimator(**FAST, epochs=20, couplings=2).fit(x)
    truth = mvn_log_prob(x, np.array([1.0, 100.0, -3.0]), covariance)
    assert abs(density.score(x) - truth.mean()) < 0.1
    drawn = density.sample(4000, random_state=0)
    np.testing.assert_allclose(drawn.mean(0), x.mean(0), atol=0.2)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.35)
    np.testing.assert_array_equal(density.sample(3, random_state=1), density.sample(3, random_state=1))


def test_linear_responses_and_their_spread():
    x = RNG.normal(size=(2000, 3))
    y = 50 + x @ [3.0, -2.0, 0.0] + 0.5 * RNG.normal(size=2000)
    regressor = hy.HybridRegressor(**FAST, epochs=40, couplings=2).fit(x, y)
    mean, stddev = regressor.predict(x, return_std=True)
    wanted = sklearn.linear_model.LinearRegression().fit(x, y).predict(x)
    assert np.sqrt(np.mean((mean - wanted) ** 2)) < 0.35
    assert 0.4 < np.median(stddev) < 0.75
    low, high = regressor.predict_interval(x, level=0.8)
    inside = np.mean((low <= y) & (y <= high))
    assert inside == hy.uncertainty.regression.interval_coverage(regressor.predict_distribution(x), y, 0.8)
    assert 0.75 < inside < 0.9
    with pytest.raises(ValueError, match="level is 1.5"):
        regressor.predict_interval(x, level=1.5)


def test_a_seed_repeats_and_leaves_numpys_generator_alone():
    x, y = blobs(80)
    np.random.seed(5)
    first = np.random.rand()
    np.random.seed(5)
    quick = hy.HybridClassifier(random_state=3, epochs=2, couplings=1)
    fits = [sklearn.base.clone(quick).fit(x, y).predict_proba(x) for _ in range(2)]
    assert np.random.rand() == first
    np.testing.assert_array_equal(*fits)


def test_pickles_and_clones(classifier):
    x, _ = blobs(20)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(x), classifier.predict_proba(x))
    np.testing.assert_array_equal(again.abstains(x), classifier.abstains(x))
    copy = sklearn.base.clone(classifier)
    assert copy.get_params() == classifier.get_params() and not hasattr(copy, "model_")


def test_frames_are_matched_by_name():
    x, y = blobs(80)
    frame = pd.DataFrame(x, columns=["a", "b"])
    fitted = hy.HybridClassifier(random_state=0, epochs=1, couplings=1).fit(frame, y)
    np.testing.assert_array_equal(fitted.predict_proba(frame[["b", "a"]]), fitted.predict_proba(frame))
    with pytest.raises(ValueError, match=r"X lacks the columns \['b'\]"):
        fitted.predict(frame[["a"]])
    with pytest.raises(ValueError, match=r"X has the columns \['c'\], which are not known"):
        fitted.predict(frame.assign(c=1.0))


def test_weights_count():
    x, y = blobs(400)
    weights = np.where(y == "eel", 0.0, 1.0)
    fitted = hy.HybridClassifier(**FAST, epochs=20).fit(x, y, sample_weight=weights)
    assert fitted.predict_proba(x)[:, 2].mean() < 0.1 and "eel" not in fitted.predict(x)


def mixed(rows=240):
    """A table with a category, holes and a number, and its labels."""
    rng = np.random.default_rng(4)
    number, plan = rng.normal(size=rows), rng.choice(["basic", "gold"], rows)
    income = np.where(rng.random(rows) < 0.3, np.nan, 1000 * np.exp(rng.normal(size=rows)))
    labels = np.where(number + 2 * (plan == "gold") > 1, "yes", "no")
    return pd.DataFrame({"number": number, "plan": plan, "income": income}), labels


def test_tables_with_categories_and_holes():
    frame, labels = mixed()
    fitted = hy.HybridClassifier(**FAST | {"batch_size": 32}, epochs=20, draws=4).fit(frame, labels)
    assert fitted.score(frame, labels) > 0.85
    assert fitted.abstains(frame).mean() < 0.1
    assert fitted.abstains(frame.assign(plan="platinum")).all() and fitted.abstains(frame.assign(number=None)).all()
    assert fitted.abstains(frame.assign(number=40.0)).all()
    drawn = fitted.sample(50, random_state=0)
    assert drawn.dtypes.equals(frame.dtypes) and set(drawn["plan"]) == {"basic", "gold"}
    log_prob = fitted.comparable_log_prob(frame)
    holes = frame["income"].isna()
    assert abs(log_prob[holes].mean() - log_prob[~holes].mean()) < 1.5
    alone = fitted.score_samples(frame)
    assert alone[holes].mean() - alone[~holes].mean() > 5
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(frame), fitted.predict_proba(frame))


def test_nearly_empty_columns_and_names_that_are_numbers():
    frame = pd.DataFrame({3: np.arange(60.0), 7: [None] * 59 + ["x"]})
    quick = hy.DensityEstimator(random_state=1, epochs=1, draws=1, couplings=1)
    fitted = quick.fit(frame.sample(frac=1, random_state=1))
    assert isinstance(fitted.sample(2), pd.DataFrame)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (hy.HybridClassifier(couplings=0), "couplings is 0"),
        (hy.HybridClassifier(epochs=1.5), "epochs is 1.5"),
        (hy.HybridClassifier(learning_rate=-1), "learning_rate is -1"),
        (hy.HybridClassifier(validation_fraction=1), "validation_fraction is 1"),
        (hy.HybridClassifier(abstain_fraction=0), "abstain_fraction is 0"),
        (hy.HybridClassifier(generative_weight="much"), "generative_weight is 'much'"),
        (hy.DensityEstimator(contamination=0.7), "contamination is 0.7"),
    ],
)
def test_bad_arguments(estimator, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(*blobs(30))


@pytest.mark.parametrize("estimator", [hy.HybridClassifier, hy.HybridRegressor])
@pytest.mark.parametrize("x", [blobs(30)[0], pd.DataFrame(blobs(30)[0], columns=["a", "b"])], ids=["array", "frame"])
def test_labels_are_required(estimator, x):
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        estimator(epochs=1).fit(x, None)


def test_one_class_and_no_fit():
    with pytest.raises(ValueError, match="y has one class, 'cat'; wanted at least two"):
        hy.HybridClassifier().fit(blobs(9)[0], ["cat"] * 9)
    for estimator in ESTIMATORS:
        with pytest.raises(NotFittedError):
            estimator().predict(blobs(9)[0])


@pytest.mark.integration
def test_scikit_learns_tools_take_it():
    x, y = blobs(240)
    once = [np.split(np.arange(240), [160])]  # one split: each fit compiles a model
    quick = hy.HybridClassifier(**FAST, epochs=12, couplings=1, draws=2)
    scaled = sklearn.pipeline.make_pipeline(sklearn.preprocessing.StandardScaler(), quick)
    search = sklearn.model_selection.GridSearchCV(
        scaled, {"hybridclassifier__epochs": [2, 12]}, cv=once, refit=False
    ).fit(x, y)
    assert search.best_score_ > 0.8
    calibrated = sklearn.calibration.CalibratedClassifierCV(quick, cv=once)
    assert calibrated.fit(x, y).score(x, y) > 0.8


def test_scikit_activeml_asks_by_it():
    """Its loop takes the estimator, and asks for rows near the border of the classes."""
    codes = np.random.default_rng(1).integers(2, size=120)
    x = np.random.default_rng(2).normal(size=(120, 2)) + 4 * np.eye(2)[codes]
    quick = hy.HybridClassifier(**FAST | {"batch_size": 16}, epochs=20, couplings=1)
    learner = skactiveml.classifier.SklearnClassifier(quick, classes=[0, 1], random_state=0)
    known = np.where(np.arange(120) < 40, codes, np.nan)
    asked = skactiveml.pool.UncertaintySampling(random_state=0).query(x, known, learner, batch_size=5)
    far = np.abs(x @ [1, -1])
    assert len(set(asked)) == 5 and asked.min() >= 40 and far[asked].mean() < 0.5 * far[40:].mean()
    known[asked] = codes[asked]
    assert learner.fit(x, known).score(x, codes) > 0.9


@pytest.mark.nightly  # a page's code fits the same defaults to the same table
def test_defaults_do_not_overfit_a_small_table():
    """320 rows of 30 columns: log p(x) of new rows stays near that of the training rows."""
    x, y = sklearn.datasets.load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:320], order[320:]
    fitted = hy.HybridClassifier(random_state=0).fit(x[train], y[train])
    assert fitted.score(x[test], y[test]) >= 0.94
    inside, outside = (fitted.score_samples(x[rows]).mean() for rows in (train, test))
    assert inside - outside < 15


@pytest.mark.nightly
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scikit_learns_checks_pass(estimator):
    expected = {"check_sample_weight_equivalence_on_dense_data": STOCHASTIC}
    results = check_estimator(estimator(epochs=30, random_state=0), expected_failed_checks=expected, on_skip=None)
    assert [r["check_name"] for r in results if r["status"] == "skipped"] == ["check_array_api_input"]
    assert {r["status"] for r in results} == {"passed", "xfail", "skipped"}
