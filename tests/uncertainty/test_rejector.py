import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, randomize, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector
from tfp_hybrid.uncertainty.rejector import _threshold_of_risk, count_at_most

X, Y = blobs(400)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


IMAGES = np.random.default_rng(0).integers(0, 4, (50, 4, 4, 1)).astype("uint8")
SCORES = {
    "NegativeLogProb": lambda model: uncertainty.NegativeLogProb(),
    "Typicality": lambda model: uncertainty.Typicality().fit(model, X),
    "JointNegativeLogProb": lambda model: uncertainty.JointNegativeLogProb(),
    "LatentNorm": lambda model: uncertainty.LatentNorm(),
    "PredictiveEntropy": lambda model: uncertainty.PredictiveEntropy(),
    "MaxProbability": lambda model: uncertainty.MaxProbability(),
    "PredictiveVariance": lambda model: uncertainty.PredictiveVariance(),
    "WAIC": lambda model: uncertainty.WAIC([tiny_model(seed=1), tiny_model(seed=2)]),
    "LikelihoodRatio": lambda model: uncertainty.LikelihoodRatio(background=tiny_model(seed=4)).fit(model, X),
    "InputComplexity": lambda model: uncertainty.InputComplexity(),
}


def test_predict_gives_predictions_scores_and_abstentions(model):
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(X, quantile=0.9)
    answers = rejector.predict(X, verbose=0)
    np.testing.assert_allclose(answers["prediction"], model.predict(X, verbose=0), rtol=1e-5)
    np.testing.assert_allclose(answers["score"], -model.log_prob(X), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(answers["abstain"], answers["score"] > float(rejector.threshold))
    assert answers["abstain"].mean() == pytest.approx(0.1)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(64)
    np.testing.assert_allclose(rejector.predict(data, verbose=0)["score"], answers["score"], rtol=1e-4, atol=1e-4)


USUAL = ("NegativeLogProb", "Typicality", "LikelihoodRatio")


@pytest.mark.integration
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in USUAL else pytest.mark.nightly) for name in SCORES]
)
def test_saved_and_loaded_it_answers_the_same(name, tmp_path):
    x = IMAGES if name == "InputComplexity" else X
    head = hy.heads.HeteroscedasticNormal() if name == "PredictiveVariance" else None
    model = integer_model() if name == "InputComplexity" else tiny_model(head)
    rejector = Rejector(model, SCORES[name](model)).fit_threshold(x, quantile=0.8)
    rejector.save(tmp_path / "rejector.keras")
    again = keras.models.load_model(tmp_path / "rejector.keras")
    before, after = rejector.predict(x, verbose=0), again.predict(x, verbose=0)
    for key in ("prediction", "score", "abstain"):
        np.testing.assert_array_equal(before[key], after[key])
    np.testing.assert_array_equal(rejector.reference, again.reference)
    assert 0 < before["abstain"].mean() < 1
    again.export(tmp_path / "served", verbose=False)
    server = tf.saved_model.load(tmp_path / "served")
    served = server.serve(tf.cast(x, again.model.distribution.dtype))
    np.testing.assert_allclose(served["score"], before["score"], rtol=1e-3, atol=1e-3)


@pytest.mark.integration
def test_coverage_holds_for_new_inputs(model):
    """Split conformal: of new inputs at least the wanted part is kept, on average over held-out sets."""
    rng = np.random.default_rng(0)
    rejector, kept = Rejector(model, NegativeLogProb()), []
    scores = -model.log_prob(rng.normal(size=(20_000, 2)).astype("float32"))
    for _ in range(50):
        held_out = rng.normal(size=(19, 2)).astype("float32")
        rejector.fit_threshold(held_out, coverage=0.9)
        kept.append(np.mean(scores <= float(rejector.threshold)))
    assert 0.9 - 2 * np.std(kept) / 50**0.5 <= np.mean(kept) <= 0.97


def test_risk_is_met_with_as_many_as_possible(model):
    rejector = Rejector(model, uncertainty.MaxProbability())
    answers = rejector._answers(X, 64)
    wrong = answers["prediction"].argmax(-1) != Y
    target = 0.5 * wrong.mean()
    rejector.fit_threshold(X, Y, risk=target)
    kept = ~rejector.predict(X, verbose=0)["abstain"]
    assert wrong[kept].mean() <= target
    higher = answers["score"][~kept].min()
    assert wrong[answers["score"] <= higher].mean() > target or np.all(
        [wrong[answers["score"] <= s].mean() > target for s in np.unique(answers["score"][~kept])]
    )


def test_risk_with_a_loss_of_ones_own():
    model = tiny_model(hy.heads.Normal())
    y = X[:, 0]
    rejector = Rejector(model, NegativeLogProb())
    rejector.fit_threshold(X, y, risk=1.2, loss=lambda y, mean: np.abs(y - mean))
    kept = ~rejector.predict(X, verbose=0)["abstain"]
    assert np.abs(y - model.predict(X, verbose=0))[kept].mean() <= 1.2


def test_percentiles_count_the_reference(model):
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(X, quantile=0.9)
    scores = np.array([-np.inf, np.median(rejector.reference), np.inf])
    np.testing.assert_allclose(rejector.percentile(scores), [100, 50, 0], atol=0.5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "exactly one of quantile, coverage, risk"),
        ({"quantile": 0.9, "coverage": 0.9}, "exactly one"),
        ({"quantile": 1.5}, "quantile is 1.5"),
        ({"risk": -0.1}, "risk is -0.1"),
        ({"risk": 0.1}, "y is missing"),
        ({"risk": 0.0, "y": 1 - Y}, "wanted at least"),
        ({"coverage": 0.999}, "the 400 rows of x can guarantee at most 0.997506"),
    ],
)
def test_rules_that_cannot_be_met_are_explained(options, message, model):
    if options.get("risk") == 0.0:
        options = options | {"y": 1 - model.predict(X, verbose=0).argmax(-1)}  # every label is wrong
    rejector = Rejector(model, NegativeLogProb())
    with pytest.raises(ValueError, match=message):
        rejector.fit_threshold(X, **options)
    with pytest.raises(ValueError, match="no threshold yet; call `fit_threshold` first"):
        rejector.predict(X)


def test_wrong_use_is_explained(model):
    with pytest.raises(ValueError, match="model is a Sequential"):
        Rejector(keras.Sequential())
    with pytest.raises(ValueError, match="`score` is 'density'"):
        Rejector(model, "density")
    with pytest.raises(ValueError, match="fitted to another model"):
        Rejector(tiny_model(seed=7), uncertainty.Typicality().fit(model, X)).fit_threshold(X, quantile=0.9)
    with pytest.raises(ValueError, match="no threshold yet; call `fit_threshold` first"):
        Rejector(model, NegativeLogProb()).percentile([1.0])
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(X, quantile=0.9)
    for x, message in ((X[:0], "x is empty"), (X[:, :1], "x has shape"), (np.full((2, 2), np.nan), "holds nan")):
        with pytest.raises(ValueError, match=message):
            rejector.predict(x)


def test_a_threshold_belongs_to_the_weights_it_was_chosen_with():
    model = tiny_model()
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(X, quantile=0.9)
    randomize(model.trainable_weights)
    with pytest.raises(ValueError, match="was trained, or"):
        rejector.predict(X)
    rejector.fit_threshold(X, quantile=0.9).predict(X, verbose=0)


ENTRIES = {
    "predict": lambda rejector, folder: rejector.predict(X, verbose=0),
    "call": lambda rejector, folder: rejector(X),
    "predict_on_batch": lambda rejector, folder: rejector.predict_on_batch(X),
    "percentile": lambda rejector, folder: rejector.percentile([1.0]),
    "save": lambda rejector, folder: rejector.save(folder / "rejector.keras"),
    "export": lambda rejector, folder: rejector.export(folder / "served", verbose=False),
}


@pytest.mark.parametrize("score", [uncertainty.NegativeLogProb, uncertainty.Typicality])
@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_notices_a_change(name, score, tmp_path):
    model = tiny_model()
    rejector = Rejector(model, score().fit(model, X)).fit_threshold(X, quantile=0.9)
    if score is uncertainty.Typicality:
        rejector.score.fit(model, X[:20])
    else:
        randomize(model.trainable_weights)
    with pytest.raises(ValueError, match="was trained, or its score fitted, since .*; call `fit_threshold` again"):
        ENTRIES[name](rejector, tmp_path)
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_eager_batches_answer_as_compiled_ones(model):
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(X, quantile=0.9)
    expected = rejector.predict(X[:50], verbose=0)
    eager = Rejector(model, NegativeLogProb())
    eager.compile(run_eagerly=True)
    eager.fit_threshold(X, quantile=0.9)
    for answers in (rejector(X[:50]), rejector.predict_on_batch(X[:50]), eager.predict(X[:50], verbose=0)):
        np.testing.assert_array_equal(answers["abstain"], expected["abstain"])
        np.testing.assert_allclose(answers["score"], expected["score"], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no threshold yet; call `fit_threshold` first"):
        Rejector(model, NegativeLogProb()).predict_on_batch(X)
    with pytest.raises(ValueError, match="x has shape"):
        rejector.predict_on_batch(X[:, :1])


@pytest.mark.integration
def test_a_threshold_belongs_to_the_score_it_was_chosen_with(model):
    scores = uncertainty.Typicality().fit(model, X), uncertainty.WAIC([tiny_model(seed=1)])
    rejectors = [Rejector(model, score).fit_threshold(X, quantile=0.9) for score in scores]
    scores[0].fit(model, X[:20])
    randomize(scores[1].others[0].trainable_weights)
    for rejector in rejectors:
        with pytest.raises(ValueError, match="or its score fitted, since"):
            rejector.predict(X)


def test_without_a_threshold_all_are_refused(model, tmp_path):
    assert Rejector(model, NegativeLogProb())(X)["abstain"].numpy().all()
    with pytest.raises(ValueError, match="no threshold yet; call `fit_threshold` first"):
        Rejector(model, NegativeLogProb()).export(tmp_path / "served")
    for method in ("fit", "evaluate"):
        with pytest.raises(ValueError, match="A Rejector"):
            getattr(Rejector(model, NegativeLogProb()), method)(X, Y)


def test_a_threshold_of_infinity_is_refused(model):
    with pytest.raises(ValueError, match="keeps inputs of infinite score; wanted a lower value"):
        Rejector(model, NegativeLogProb()).fit_threshold(np.r_[X, np.full((1, 2), 3e38, "float32")], quantile=1.0)


def test_every_risk_that_a_threshold_has_can_be_met():
    """Ties, and means that no float holds exactly."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores, losses = rng.integers(0, 4, 15), rng.integers(0, 2, 15).astype(float)
        for s in np.unique(scores):
            assert _threshold_of_risk(scores, losses, losses[scores <= s].mean()) >= s


def test_inputs_that_overflow_are_refused(model):
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(X, quantile=1.0)
    answers = rejector.predict(np.full((1, 2), 3e38, "float32"), verbose=0)
    assert answers["abstain"].all() and (answers["score"] == np.inf).all()


@pytest.mark.integration
def test_made_and_loaded_under_a_strategy(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 2)).astype("float32")
    wanted = uncertainty.Rejector(tiny_model(), NegativeLogProb()).fit_threshold(x, quantile=0.9)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        made = uncertainty.Rejector(tiny_model(), NegativeLogProb()).fit_threshold(x, quantile=0.9)
        made.save(tmp_path / "r.keras")
        loaded = keras.models.load_model(tmp_path / "r.keras")
    for rejector in (made, loaded):
        answers = rejector.predict(x, verbose=0)
        for name, values in wanted.predict(x, verbose=0).items():
            np.testing.assert_allclose(answers[name], values, rtol=1e-5)


def test_counts_are_those_of_a_search():
    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 64, 1000):
        ordered = np.sort(rng.normal(size=size).round(1))  # with ties
        values = np.r_[rng.normal(size=200).round(1), ordered[0], ordered[-1], -np.inf, np.inf]
        found = count_at_most(ordered, tf.constant(values))
        np.testing.assert_array_equal(found, np.searchsorted(ordered, values, side="right"))
