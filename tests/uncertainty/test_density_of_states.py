"""Normal scores, and the joint density of statistics of a pass."""

import numpy as np
import pytest
import scipy.stats
import sklearn.neighbors
import tensorflow as tf
from helpers import blobs, integer_model, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.uncertainty.scores.normal_scores import knots_of, normal_scores

X, Y = blobs(400)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def test_normal_scores_make_columns_normal():
    rng = np.random.default_rng(0)
    sample = np.stack([rng.exponential(size=3000), 5 + rng.standard_cauchy(3000)], -1)
    found = normal_scores(tf.constant(sample, tf.float32), *map(np.float32, knots_of(sample))).numpy()
    ranks = scipy.stats.rankdata(sample, axis=0) / (len(sample) + 1)
    inside = (ranks > 0.002) & (ranks < 0.998)
    assert np.abs(found - scipy.stats.norm.ppf(ranks))[inside].max() < 0.1
    for i in range(2):
        assert (np.diff(found[np.argsort(sample[:, i]), i]) >= 0).all(), "it keeps the order"


def test_normal_scores_go_on_beyond_the_sample():
    sample = np.random.default_rng(0).uniform(size=(500, 1))
    beyond = tf.constant([[-2.0], [-1.0], [0.0], [1.0], [2.0], [3.0]])
    steps = np.diff(normal_scores(beyond, *map(np.float32, knots_of(sample))).numpy().ravel())
    assert (steps > 1).all()
    np.testing.assert_allclose([steps[0], steps[-1]], [steps[1], steps[-2]], rtol=0.2)


def test_equal_values_keep_slopes_finite():
    sample = np.repeat([[0.0], [1.0]], [400, 100], axis=0)
    found = normal_scores(tf.constant([[0.0], [1.0], [1.1]]), *map(np.float32, knots_of(sample))).numpy().ravel()
    assert np.isfinite(found).all() and (np.diff(found) > 0).all()


def test_it_is_a_kernel_density_of_the_scores(model):
    """scikit-learn's kernels at the same points, bandwidth and coordinates."""
    statistics = [uncertainty.LatentNorm(), uncertainty.PredictiveEntropy()]
    score = uncertainty.DensityOfStates(statistics).fit(model, X[:300])
    pieces = [tf.convert_to_tensor(part) for part in (score.quantiles, score.origins, score.slopes)]
    states = np.stack([s.score(model, X) for s in statistics], -1) - tf.convert_to_tensor(score.means)[0]
    u = (normal_scores(states, *pieces) - score.centre) @ tf.convert_to_tensor(score.whitening)
    kernels = sklearn.neighbors.KernelDensity(bandwidth=float(score.bandwidth.numpy()))
    expected = -kernels.fit(tf.convert_to_tensor(score.points)).score_samples(u)
    np.testing.assert_allclose(score.score(model, X), expected, rtol=1e-3, atol=1e-3)
    assert np.abs(np.cov(u[:300], rowvar=False) - np.eye(2)).max() < 1e-2


def test_too_likely_is_unusual_too():
    """The origin of z is the most likely latent, and few held-out inputs are near it in eight dimensions."""
    keep = tiny_model(event_shape=(8,))
    x = keep.distribution.sample(400, seed=1).numpy()
    origin = keep.flow.forward(tf.zeros((1, 8))).numpy()
    assert keep.log_prob(origin) > np.quantile(keep.log_prob(x), 0.98)
    score = uncertainty.DensityOfStates().fit(keep, x[:300])
    assert score.score(keep, origin) > np.quantile(score.score(keep, x[300:]), 0.95)


def test_the_statistics_of_a_class_are_its_own(model):
    """An input that is usual for another class than the predicted one is unusual."""
    statistic = [uncertainty.NegativeLogProb()]
    whole = uncertainty.DensityOfStates(statistic).fit(model, X)
    given = uncertainty.DensityOfStates(statistic, given_class=True).fit(model, X)
    classes, values = model.predict(X, verbose=0).argmax(-1), statistic[0].score(model, X)
    means = [values[classes == k].mean() for k in (0, 1)]
    np.testing.assert_allclose(tf.convert_to_tensor(given.means).numpy().ravel(), means, rtol=1e-4)
    assert np.abs(whole.score(model, X) - given.score(model, X)).max() > 0.01


def test_statistics_that_say_the_same_count_once():
    """Of an identity flow, ||z|| and -log p(x) are functions of each other."""
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.RealNVP((2,))))
    x = np.random.default_rng(0).normal(size=(500, 2)).astype("float32")
    score = uncertainty.DensityOfStates().fit(model, x)
    assert tf.convert_to_tensor(score.points).shape == (500, 1)
    found = score.score(model, np.float32([[1.0, 0.5], [1e-3, 0.0], [5.0, 5.0]]))
    assert found[0] < 2 < found[1] < 20 < found[2], "the centre is rare, not absurd"


def test_default_statistics_are_those_that_apply():
    def titles(model, x):
        return [score.title for score in uncertainty.DensityOfStates().fit(model, x).scores]

    common = ["||z|| of level 0", "-log p of level 0"]
    assert titles(tiny_model(), X) == [*common, "energy"]
    assert titles(tiny_model(hy.heads.Normal()), X) == [*common, "variance of p(y|x)"]
    images = np.random.default_rng(0).integers(0, 4, (64, 4, 4, 1)).astype("uint8")
    assert titles(integer_model(), images) == [*common, "code length", "energy"]
    density = hy.DensityModel(tiny_model().distribution)
    assert titles(density, X) == common


def test_complexity_and_density_are_judged_together():
    """A simple image of a usual density is unusual, though neither is by itself."""
    model = integer_model()
    images = np.random.default_rng(0).integers(0, 4, (200, 4, 4, 1)).astype("uint8")
    score = uncertainty.ComplexityDensity().fit(model, images)
    assert [part.title for part in score.scores] == ["-log p(x)", "code length"]
    flat = np.full((1, 4, 4, 1), 2, "uint8")
    assert score.score(model, flat) > np.quantile(score.score(model, images), 0.99)
    again = uncertainty.ComplexityDensity.from_config(score.get_config())
    assert [part.title for part in again.scores] == ["-log p(x)", "code length"]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: uncertainty.DensityOfStates([]), "DensityOfStates got the scores ..; wanted at least one"),
        (lambda m: uncertainty.DensityOfStates(["||z||"]), "wanted at least one `Score`"),
        (lambda m: uncertainty.DensityOfStates([uncertainty.Typicality()]), "wanted scores that need no fit"),
        (lambda m: uncertainty.DensityOfStates().fit(m, X[:19]), "x has 19 inputs whose statistics are finite"),
        (lambda m: uncertainty.DensityOfStates().fit(m, np.full((30, 2), 3e38, "float32")), "x has 0 inputs whose"),
        (lambda m: uncertainty.DensityOfStates().score(m, X), "DensityOfStates is not fitted"),
        (
            lambda m: uncertainty.DensityOfStates(given_class=True).fit(tiny_model(hy.heads.Normal()), X),
            "DensityOfStates: the head is Normal; wanted a classifier",
        ),
    ],
)
def test_wrong_use_is_explained(call, message, model):
    with pytest.raises(ValueError, match=message):
        call(model)


def test_every_predicted_class_has_means_of_its_own():
    """A head of several classes may have one linear predictor."""
    model = tiny_model(hy.heads.Ordinal(4))
    quarters = np.quantile(model.encode(X).latents[:, 0], [0.25, 0.5, 0.75])
    model.head.kernel.assign([[100.0], [0.0]])
    model.head.bias.assign([-100 * quarters[0]])
    model.head.raw_steps.assign(100 * np.diff(quarters))  # softplus of large numbers is the identity
    classes = model.predict(X, verbose=0).argmax(-1)
    score = uncertainty.DensityOfStates([uncertainty.LatentNorm()], given_class=True).fit(model, X)
    assert set(classes) == {0, 1, 2, 3}
    norms = uncertainty.LatentNorm().score(model, X)
    wanted = [norms[classes == k].mean() for k in range(4)]
    np.testing.assert_allclose(tf.convert_to_tensor(score.means)[:, 0], wanted, rtol=1e-5)
