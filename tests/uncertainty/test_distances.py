"""Scores by distances of latents, energy, and steepness."""

import keras
import numpy as np
import pytest
import scipy.special
import sklearn.covariance
import sklearn.neighbors
import tensorflow as tf
from helpers import blobs, integer_model, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty

X, Y = blobs(200)
IMAGES = np.random.default_rng(0).integers(0, 4, (20, 4, 4, 1)).astype("uint8")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def rows_of(model, of):
    return model.flow.inverse(tf.identity(X)).numpy().astype("float64") if of == "z" else X.astype("float64")


@pytest.mark.parametrize("of", ["z", "x"])
@pytest.mark.parametrize("relative", [True, False])
def test_relative_mahalanobis_equals_its_definition(of, relative, model):
    rows, classes = rows_of(model, of), model.predict(X, verbose=0).argmax(-1)
    fitted, on = rows[:150], classes[:150]
    means = np.stack([fitted[on == k].mean(0) for k in (0, 1)])
    within = sklearn.covariance.ledoit_wolf(fitted - means[on], assume_centered=True)[0]
    of_all = sklearn.covariance.ledoit_wolf(fitted - fitted.mean(0), assume_centered=True)[0]
    far = [np.einsum("ni,ij,nj->n", rows - m, np.linalg.inv(within), rows - m) for m in means]
    expected = np.min(far, 0)
    if relative:
        centred = rows - fitted.mean(0)
        expected = expected - np.einsum("ni,ij,nj->n", centred, np.linalg.inv(of_all), centred)
    score = uncertainty.RelativeMahalanobis(of, relative).fit(model, X[:150])
    np.testing.assert_allclose(score.score(model, X), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("normalize", [False, True])
def test_nearest_neighbours_equal_scikit_learns(normalize, model):
    rows = rows_of(model, "z")
    if normalize:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    found = sklearn.neighbors.NearestNeighbors(n_neighbors=3).fit(rows[:100]).kneighbors(rows)[0][:, -1]
    score = uncertainty.KNearest(3, normalize=normalize).fit(model, X[:100])
    np.testing.assert_allclose(score.score(model, X), found, rtol=1e-3, atol=2e-3)
    few = uncertainty.KNearest(3, rows=50, normalize=normalize).fit(model, X[:100])
    assert tf.convert_to_tensor(few.neighbours).shape == (50, 2)


def test_energy_equals_its_definition(model):
    features = model.encode(X).features
    logits = features @ model.head.kernel.value + model.head.bias.value
    expected = -scipy.special.logsumexp(logits, axis=-1)
    np.testing.assert_allclose(uncertainty.Energy().score(model, X), expected, rtol=1e-4, atol=1e-5)


def test_gradient_norm_equals_finite_differences(model):
    step, steepness = 1e-2, []
    for i in range(2):
        shift = step * np.eye(2, dtype="float32")[i]
        steepness.append((model.log_prob(X + shift) - model.log_prob(X - shift)) / (2 * step))
    expected = np.linalg.norm(steepness, axis=0)
    np.testing.assert_allclose(uncertainty.GradientNorm().score(model, X), expected, rtol=2e-2, atol=2e-2)
    assert np.isfinite(uncertainty.GradientNorm().score(integer_model(), IMAGES)).all()


def learned_scores():
    looks = [uncertainty.LatentNorm(), uncertainty.KNearest()]
    return [
        uncertainty.RelativeMahalanobis(),
        uncertainty.KNearest(k=2, rows=60, of="x", normalize=True),
        uncertainty.LatentNorm(two_sided=True),
        uncertainty.DensityOfStates(),
        uncertainty.DensityOfStates([uncertainty.Energy()], given_class=True),
        uncertainty.combine(looks, "fisher"),
    ]


@pytest.mark.parametrize("score", learned_scores(), ids=lambda score: score.title)
def test_what_a_score_learned_is_saved(score, model, tmp_path):
    """In the file of a rejector, which also notices when a score is fitted anew."""
    rejector = uncertainty.Rejector(model, score.fit(model, X)).fit_threshold(X, quantile=0.9)
    expected = rejector.predict(X, verbose=0)
    rejector.save(tmp_path / "rejector.keras")
    loaded = keras.models.load_model(tmp_path / "rejector.keras")
    for name, values in loaded.predict(X, verbose=0).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=2e-5)
    assert repr(loaded.score) == repr(score)
    score.fit(model, 2 * X[:77])
    with pytest.raises(ValueError, match="or its score fitted, since the threshold was chosen"):
        rejector.predict(X, verbose=0)


@pytest.mark.integration
def test_learned_scores_are_exported(model, tmp_path):
    rejector = uncertainty.Rejector(model).fit_threshold(X, quantile=0.9)
    rejector.export(tmp_path / "served", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "served")
    served = loaded.serve(X)
    np.testing.assert_allclose(served["score"], rejector.predict(X, verbose=0)["score"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, r: uncertainty.RelativeMahalanobis("y"), "`of` is 'y'; wanted 'z' or 'x'"),
        (lambda m, r: uncertainty.RelativeMahalanobis().fit(r, X), "the head is Normal; wanted a classifier"),
        (lambda m, r: uncertainty.RelativeMahalanobis().score(m, X), "RelativeMahalanobis is not fitted"),
        (lambda m, r: uncertainty.RelativeMahalanobis().fit(m, np.ones((9, 2))), "inputs that are all alike"),
        (lambda m, r: uncertainty.KNearest(k=0), "`k` is 0"),
        (lambda m, r: uncertainty.KNearest(k=5, rows=4), "`rows` is 4"),
        (lambda m, r: uncertainty.KNearest(of="h"), "`of` is 'h'"),
        (lambda m, r: uncertainty.KNearest().fit(m, X[:4]), "x has 4 inputs; wanted at least k = 5"),
        (lambda m, r: uncertainty.Energy().score(r, X), "Energy: the head is Normal; wanted Categorical"),
    ],
)
def test_wrong_use_is_explained(call, message, model):
    with pytest.raises(ValueError, match=message):
        call(model, tiny_model(hy.heads.Normal()))
