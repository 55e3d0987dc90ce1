import io
import itertools

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, randomize, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.uncertainty.scores.likelihood_ratio import mutate

X, Y = blobs(300)
IMAGES = np.random.default_rng(0).integers(0, 4, (20, 4, 4, 1)).astype("uint8")


@pytest.fixture(scope="module")
def classifier():
    return tiny_model()


@pytest.fixture(scope="module")
def regressor():
    return tiny_model(hy.heads.HeteroscedasticNormal((2,)))


def log_prob(model, x):
    """By TFP's own path."""
    return np.asarray(model.distribution.log_prob(x))


def test_density_scores_equal_tfps(classifier):
    expected = -log_prob(classifier, X)
    np.testing.assert_allclose(uncertainty.NegativeLogProb().score(classifier, X), expected, rtol=1e-4, atol=1e-4)
    entropy = -log_prob(classifier, X[:100]).mean()
    typicality = uncertainty.Typicality().fit(classifier, X[:100])
    np.testing.assert_allclose(typicality.score(classifier, X), abs(expected - entropy), rtol=1e-3, atol=1e-4)
    norm = np.linalg.norm(classifier.flow.inverse(tf.identity(X)), axis=-1)
    np.testing.assert_allclose(uncertainty.LatentNorm().score(classifier, X), norm, rtol=1e-4)


def test_scores_of_a_classifier_equal_their_definitions(classifier):
    probabilities = classifier.predict(X, verbose=0)
    entropy = -(probabilities * np.log(probabilities)).sum(-1)
    np.testing.assert_allclose(uncertainty.PredictiveEntropy().score(classifier, X), entropy, rtol=1e-3, atol=1e-5)
    top = probabilities.max(-1)
    np.testing.assert_allclose(uncertainty.MaxProbability().score(classifier, X), 1 - top, rtol=1e-3, atol=1e-6)
    joint = -log_prob(classifier, X) - np.log(top)
    np.testing.assert_allclose(uncertainty.JointNegativeLogProb().score(classifier, X), joint, rtol=1e-4, atol=1e-4)


def test_scores_of_binary_labels_equal_their_definitions():
    model = tiny_model(hy.heads.Bernoulli((3,)))
    p = model.predict(X, verbose=0)
    most_probable = np.prod(np.maximum(p, 1 - p), -1)  # of the eight combinations
    np.testing.assert_allclose(uncertainty.MaxProbability().score(model, X), 1 - most_probable, rtol=1e-3, atol=1e-6)


def test_scores_of_a_regressor_equal_their_definitions(regressor):
    p_y, _ = regressor.predict_distribution(X)
    stddev = p_y.stddev().numpy()
    np.testing.assert_allclose(uncertainty.PredictiveVariance().score(regressor, X), (stddev**2).sum(-1), rtol=1e-4)
    entropy = (0.5 * np.log(2 * np.pi * np.e * stddev**2)).sum(-1)
    np.testing.assert_allclose(uncertainty.PredictiveEntropy().score(regressor, X), entropy, rtol=1e-4, atol=1e-5)
    at_mean = -(0.5 * np.log(2 * np.pi * stddev**2)).sum(-1)
    expected = -log_prob(regressor, X) - at_mean
    np.testing.assert_allclose(uncertainty.JointNegativeLogProb().score(regressor, X), expected, rtol=1e-4, atol=1e-4)


def test_input_complexity_is_the_length_of_a_lossless_file():
    model = integer_model()
    excess = -log_prob(model, IMAGES) - uncertainty.InputComplexity().score(model, IMAGES)
    for image, nats in zip(IMAGES, excess, strict=True):
        data = tf.io.encode_png(image, compression=9).numpy()
        np.testing.assert_array_equal(np.asarray(PIL.Image.open(io.BytesIO(data))), image[..., 0])
        assert nats == pytest.approx(8 * len(data) * np.log(2), rel=1e-4)
    blank = np.zeros_like(IMAGES)
    blank_excess = -log_prob(model, blank) - uncertainty.InputComplexity().score(model, blank)
    assert (blank_excess < excess).all()


@pytest.mark.integration
def test_waic_is_mean_less_variance(classifier):
    others = [tiny_model(seed=seed) for seed in (1, 2)]
    log_probs = np.stack([log_prob(model, X) for model in (classifier, *others)])
    expected = log_probs.var(0) - log_probs.mean(0)
    np.testing.assert_allclose(uncertainty.WAIC(others).score(classifier, X), expected, rtol=1e-3, atol=1e-4)


def test_likelihood_ratio_is_the_difference_of_two_models(classifier):
    background = tiny_model(seed=1)
    score = uncertainty.LikelihoodRatio(background=background).fit(classifier, X)
    expected = log_prob(background, X) - log_prob(classifier, X)
    np.testing.assert_allclose(score.score(classifier, X), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.integration
def test_likelihood_ratio_trains_its_background_on_perturbed_inputs():
    """Its density of perturbed images rises with training, and the model stays as it was."""
    model = integer_model()
    before = [weight.numpy() for weight in model.weights]
    images = np.zeros((256, 4, 4, 1), "uint8")
    score = uncertainty.LikelihoodRatio(mutation_rate=0.3, epochs=10, batch_size=32, learning_rate=1e-2)
    score.fit(model, images)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    perturbed = mutate(tf.constant(images), 0.3, 4).numpy()
    fresh = uncertainty.LikelihoodRatio(mutation_rate=0.3, epochs=1, batch_size=256, learning_rate=1e-9)
    fresh.fit(model, images)
    assert score.background.log_prob(perturbed).mean() > fresh.background.log_prob(perturbed).mean() + 2


def test_mutations_have_their_rate():
    images = tf.zeros((2000, 4, 4, 1), tf.uint8)
    changed = mutate(images, 0.4, 4).numpy()
    assert changed.dtype == np.uint8 and changed.max() == 3
    assert (changed != 0).mean() == pytest.approx(0.4 * 3 / 4, abs=0.02)
    rows = tf.constant(np.arange(4000.0).reshape(2000, 2))
    moved = mutate(rows, 0.4, None).numpy()
    assert (moved != rows.numpy()).mean() == pytest.approx(0.4, abs=0.03)
    assert set(moved[:, 0]) <= set(rows.numpy()[:, 0])  # from the same column


def test_several_scores_share_one_pass(classifier):
    scores = uncertainty.all_scores(classifier, X, others=[tiny_model(seed=1)])
    table = uncertainty.score_table(classifier, X, scores)
    for score in scores:
        np.testing.assert_array_equal(table[score.title], score.score(classifier, X))
    assert len(set(table)) == len(scores) == 13


def test_data_sets_are_scored_batch_by_batch(classifier):
    """The same numbers, from one batch after another: an endless set is read no further than it is asked for."""
    scores = uncertainty.NegativeLogProb().score(classifier, X)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(64)
    np.testing.assert_allclose(uncertainty.NegativeLogProb().score(classifier, data), scores, rtol=1e-5, atol=1e-5)
    read = []
    endless = tf.data.Dataset.from_generator(
        lambda: (read.append(i) or X[:8] for i in itertools.count()), output_signature=tf.TensorSpec((8, 2))
    )
    passes = classifier.encode_batches(endless)
    for _ in range(3):
        next(passes)
    assert len(read) <= 10, "three, and the few that TensorFlow reads ahead"


def test_a_density_that_overflows_is_the_least_likely(classifier):
    far = np.full((2, 2), 3e38, "float32")
    for score in uncertainty.all_scores(classifier, X, others=[tiny_model(seed=1)]):
        found = score.score(classifier, far)
        assert not np.isnan(found).any()
        if score.title in ("-log p(x)", "typicality", "-log p(x, y-hat)", "WAIC"):
            assert (found == np.inf).all()


def test_only_scores_that_apply_are_given():
    """Counts have no entropy in closed form; the mode of a gamma distribution may be none."""
    for family, missing in (("Poisson", "PredictiveEntropy"), ("GammaExp", "JointNegativeLogProb")):
        model = tiny_model(hy.heads.ExponentialFamily(family))
        names = {type(score).__name__ for score in uncertainty.all_scores(model, X)}
        assert missing not in names and {"NegativeLogProb", "Typicality"} <= names
        assert np.isfinite(uncertainty.score_table(model, X, uncertainty.all_scores(model, X))).all(axis=None)
        with pytest.raises(ValueError):
            getattr(uncertainty, missing)().score(model, X)


@pytest.mark.integration
def test_a_second_fit_trains_another_background():
    model = tiny_model()
    score = uncertainty.LikelihoodRatio(epochs=1).fit(model, X)
    first = score.background
    assert score.fit(model, X).background is not first
    given = uncertainty.LikelihoodRatio(background=first)
    assert given.fit(model, X).background is first


def test_mixed_precision_rounds_no_score(policy, classifier):
    typicality = uncertainty.Typicality().fit(classifier, X)
    wanted = typicality.score(classifier, X)
    policy("mixed_float16")
    rejector = uncertainty.Rejector(classifier, uncertainty.Typicality().fit(classifier, X))
    rejector.fit_threshold(X, quantile=0.9)
    np.testing.assert_allclose(rejector.predict(X, verbose=0)["score"], wanted, rtol=1e-5, atol=1e-5)


def test_titles_must_differ(classifier):
    for scores in ([], [uncertainty.LatentNorm(), uncertainty.LatentNorm()]):
        with pytest.raises(ValueError, match="scores has the titles .*; wanted at least one score, and no title twice"):
            uncertainty.score_table(classifier, X, scores)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["Typicality", "LikelihoodRatio"])
def test_scores_that_learn_know_their_model(name, classifier):
    make = getattr(uncertainty, name)
    options = {"background": tiny_model(seed=3)} if name == "LikelihoodRatio" else {}
    score = make(**options)
    with pytest.raises(ValueError, match=f"{name} is not fitted"):
        score.score(classifier, X)
    score.fit(classifier, X)
    with pytest.raises(ValueError, match="fitted to another model"):
        score.score(tiny_model(seed=5), X)
    trained = tiny_model()
    score.fit(trained, X).score(trained, X)
    randomize(trained.trainable_weights)
    with pytest.raises(ValueError, match="trained since; call `fit.model, x.` again"):
        score.score(trained, X)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, r: uncertainty.NegativeLogProb().score(keras.Sequential(), X), "model is a Sequential"),
        (lambda m, r: uncertainty.NegativeLogProb().score(m, X[:0]), "x is empty"),
        (lambda m, r: uncertainty.NegativeLogProb().score(m, X[:, :1]), "x has shape"),
        (lambda m, r: uncertainty.NegativeLogProb().score(m, np.full((2, 2), np.nan)), "x holds nan"),
        (lambda m, r: uncertainty.Typicality().fit(m, np.full((2, 2), 3e38, "float32")), "2 inputs whose log p"),
        (
            lambda m, r: uncertainty.MaxProbability().score(r, X),
            "MaxProbability: the head is HeteroscedasticNormal; wanted a classifier",
        ),
        (
            lambda m, r: uncertainty.PredictiveVariance().score(m, X),
            "PredictiveVariance: the head is Categorical; wanted a regressor",
        ),
        (
            lambda m, r: uncertainty.InputComplexity().score(m, X),
            "InputComplexity: the model's inputs have shape .2,. and None levels; wanted integer images",
        ),
        (lambda m, r: uncertainty.WAIC([]), "`others` is ..; wanted a list of at least one more HybridModel or"),
        (lambda m, r: uncertainty.WAIC([keras.Sequential()]), "model is a Sequential"),
        (lambda m, r: uncertainty.WAIC([integer_model()]).score(m, X), "inputs have shapes .*; they must match"),
        (lambda m, r: uncertainty.LikelihoodRatio(mutation_rate=0), "`mutation_rate` is 0"),
        (lambda m, r: uncertainty.LikelihoodRatio(epochs=0), "`epochs` is 0"),
        (lambda m, r: uncertainty.all_scores(m, X, likelihood_ratio=uncertainty.LikelihoodRatio()), "is not fitted"),
        (lambda m, r: uncertainty.LikelihoodRatio(background="p_0"), "model is a str"),
        (
            lambda m, r: uncertainty.LikelihoodRatio(background=integer_model()).fit(m, X),
            "`background` is a model of inputs of shape .4, 4, 1.; wanted",
        ),
        (lambda m, r: uncertainty.LikelihoodRatio().fit(m, tf.data.Dataset.from_tensors(X).take(0)), "empty data"),
        (lambda m, r: uncertainty.Rejector(m, uncertainty.LikelihoodRatio()), "LikelihoodRatio is not fitted"),
        (
            lambda m, r: uncertainty.Rejector(r, uncertainty.MaxProbability()),
            "MaxProbability: the head is HeteroscedasticNormal; wanted a classifier",
        ),
        (lambda m, r: uncertainty.NegativeLogProb().score(m, X, batch_size=0), "batch_size is 0"),
        (lambda m, r: uncertainty.NegativeLogProb().score(m, tf.data.Dataset.from_tensors(X[:, :1])), "x has shape"),
        (lambda m, r: uncertainty.NegativeLogProb().score(m, tf.data.Dataset.from_tensors(X).take(0)), "empty data"),
    ],
)
def test_wrong_use_is_explained(call, message, classifier, regressor):
    with pytest.raises(ValueError, match=message):
        call(classifier, regressor)


def test_a_head_without_entropy_is_explained():
    model = tiny_model(hy.heads.ExponentialFamily("Poisson"))
    with pytest.raises(ValueError, match=r"entropy of p\(y\|x\) is not known for the head ExponentialFamily"):
        uncertainty.PredictiveEntropy().score(model, X)


def test_the_detection_table_has_a_row_for_each_set_and_score(classifier):
    scores = uncertainty.all_scores(classifier)
    inside = uncertainty.score_table(classifier, X, scores)
    outside = {"far": uncertainty.score_table(classifier, 20 * X, scores)}
    table = uncertainty.detection_table(inside, outside)
    assert table.index.names == ["set", "score"] and len(table) == len(scores)
    expected = uncertainty.detection.detection_metrics(inside["-log p(x)"], outside["far"]["-log p(x)"])
    assert table.loc[("far", "-log p(x)")].to_dict() == pytest.approx(expected)
    assert expected["auroc"] > 0.9
    empty = uncertainty.detection_table(inside, {})
    assert len(empty) == 0 and list(empty) == list(table) and empty.index.names == ["set", "score"]


@pytest.mark.integration
def test_a_likelihood_ratio_of_a_table_with_constants():
    """The background model takes them as the model does."""
    x = np.stack([X[:, 0], np.full(len(X), 0.1, "float32"), np.full(len(X), -1e12, "float32")], 1)
    model = tiny_model(event_shape=(3,))
    model.adapt(x)
    ratio = uncertainty.LikelihoodRatio(epochs=1).fit(model, x)
    assert np.abs(ratio.score(model, x)).max() < 50


def test_the_background_of_a_frozen_model_is_trained():
    model = tiny_model()
    model.trainable = False
    background = uncertainty.LikelihoodRatio(epochs=1).fit(model, X).background
    assert len(background.trainable_weights) == len(tiny_model().density.trainable_weights)
    assert model.trainable_weights == []
