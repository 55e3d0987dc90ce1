import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from helpers import blobs, tiny_model

import tfp_hybrid as hy
from tfp_hybrid.uncertainty import calibrate, stddev_factor, temperature
from tfp_hybrid.uncertainty.classification import accuracy, nll

RNG = np.random.default_rng(0)
X, Y = blobs(600)


@pytest.mark.parametrize("truth", [0.25, 1.0, 3.0])
def test_the_temperature_of_a_miscalibrated_model_is_found(truth):
    """Each row's labels in exact proportion to softmax(logits / T): the optimum is T itself."""
    logits = np.log(np.array([[8, 1, 1], [5, 3, 2], [2, 2, 6], [4, 4, 2]]) / 10)
    counts = np.array([[8, 1, 1], [5, 3, 2], [2, 2, 6], [4, 4, 2]])
    rows = np.repeat(logits * truth, 10, axis=0)
    y = np.concatenate([np.repeat(np.arange(3), c) for c in counts])
    assert temperature(rows, y) == pytest.approx(truth, rel=1e-4)


@pytest.mark.integration
def test_a_sampled_temperature_is_found_within_one_per_cent():
    logits = RNG.normal(size=(400_000, 5)) * 2
    p = scipy.special.softmax(logits, -1)
    y = (p.cumsum(-1) < RNG.uniform(size=(len(p), 1))).sum(-1)
    assert temperature(2.5 * logits, y) == pytest.approx(2.5, rel=0.01)


def test_the_factor_of_a_normal_is_found():
    mean, stddev = RNG.normal(size=100_000), RNG.uniform(0.5, 2, 100_000)
    y = RNG.normal(mean, 1.7 * stddev)
    assert stddev_factor(mean, stddev, y) == pytest.approx(1.7, rel=0.01)
    assert stddev_factor([0.0, 0.0], [1.0, 2.0], [3.0, 8.0]) == pytest.approx(np.sqrt((9 + 16) / 2))


def test_a_classifier_keeps_its_accuracy_and_gains_likelihood():
    model = tiny_model()
    model.head.kernel.assign(20 * model.head.kernel)
    x_new, y_new = blobs(600, seed=1)
    before, density = model.predict(x_new, verbose=0), model.log_prob(x_new)
    factor = calibrate(model, X, Y)
    after = model.predict(x_new, verbose=0)
    assert factor > 1
    assert accuracy(after, y_new) == accuracy(before, y_new)
    assert nll(after, y_new) < nll(before, y_new)
    np.testing.assert_array_equal(model.log_prob(x_new), density)
    assert calibrate(model, X, Y) == pytest.approx(1.0, abs=1e-3)  # nothing is left to do


def test_effects_of_groups_are_divided_by_the_temperature():
    """Each group's labels in exact proportion to softmax(effects / 3): the optimum is 3."""
    counts = np.array([[8, 1, 1], [5, 3, 2], [2, 2, 6], [4, 4, 2]])
    head = hy.heads.MixedEffects(hy.heads.Categorical(3), {"school": hy.heads.Group(range(4))}, train_size=40)
    model = hy.HybridModel(hy.flow_distribution(hy.bijectors.ActNorm((2,))), head)
    head.posterior.set_effects(0, 3 * np.log(counts / 10), np.tile(1e-8 * np.eye(3), (4, 1, 1)), np.zeros((4, 3, 3)))
    x = {"x": RNG.normal(size=(40, 2)).astype("float32"), "school": np.repeat(np.arange(4), 10)}
    y = np.concatenate([np.repeat(np.arange(3), count) for count in counts])
    assert calibrate(model, x, y) == pytest.approx(3, rel=1e-2)
    np.testing.assert_allclose(model.predict(x, verbose=0)[::10], counts / 10, atol=2e-3)


@pytest.mark.integration
@pytest.mark.parametrize("event_shape", [(), (2,)])
@pytest.mark.parametrize("name", ["Normal", "HeteroscedasticNormal"])
def test_a_regressor_keeps_its_mean_and_gains_likelihood(name, event_shape, tmp_path):
    model = tiny_model(getattr(hy.heads, name)(event_shape), compile=False)
    y = RNG.normal(X[:, :1] * 2, 5.0, (600, 2))[:, : (event_shape or (1,))[0]].reshape(600, *event_shape)
    before, _ = model.predict_distribution(X)
    factor = calibrate(model, X, y)
    after, _ = model.predict_distribution(X)
    np.testing.assert_allclose(after.mean(), before.mean(), rtol=1e-5)
    np.testing.assert_allclose(after.stddev(), factor * before.stddev(), rtol=1e-4)
    assert np.mean(after.log_prob(y.astype("float32"))) > np.mean(before.log_prob(y.astype("float32")))
    residual = (y - after.mean()) / after.stddev()
    assert np.mean(np.square(residual)) == pytest.approx(1.0, rel=1e-4)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_distribution(X)[0].stddev(), after.stddev())


@pytest.mark.integration
def test_binary_labels_are_calibrated():
    model = tiny_model(hy.heads.Bernoulli())
    model.fit(X, Y, epochs=5, verbose=0)
    model.head.kernel.assign(30 * model.head.kernel)
    before = model.predict_distribution(X)[0].logits_parameter().numpy()
    factor = calibrate(model, X, Y)
    after = model.predict_distribution(X)[0].logits_parameter().numpy()
    assert factor > 1
    np.testing.assert_allclose(after, before / factor, rtol=1e-3, atol=1e-4)


@pytest.mark.integration
def test_a_mixture_gets_the_factor_of_least_nll():
    """Against every factor of a fine grid, by the mixture's formula in float64; its standard deviation is no guide."""
    model = tiny_model(hy.heads.NormalMixture(3))
    y = (X[:, 0] + 0.3 * RNG.standard_t(2, len(X))).astype("float32")
    model.head.adapt(y)
    model.head.widen(3.0)
    before, _ = model.predict_distribution(X)
    parts, mean = before.components_distribution, before.mean().numpy().astype(float)[:, None]
    logits, loc, scale = (np.asarray(v, float) for v in (before.mixture_distribution.logits, parts.loc, parts.scale))

    def nll_of(factor):
        log_prob = scipy.stats.norm.logpdf(y[:, None], mean + factor * (loc - mean), factor * scale)
        return -scipy.special.logsumexp(scipy.special.log_softmax(logits, -1) + log_prob, axis=-1).mean()

    grid = np.exp(np.linspace(-3, 3, 3001))
    best = grid[np.argmin([nll_of(factor) for factor in grid])]
    factor = calibrate(model, X, y)
    assert factor == pytest.approx(best, rel=0.005)
    assert abs(factor / stddev_factor(mean[:, 0], before.stddev(), y) - 1) > 0.05  # a Normal's is another
    after, _ = model.predict_distribution(X)
    assert -np.mean(after.log_prob(y)) == pytest.approx(nll_of(factor), abs=1e-4)
    assert calibrate(model, X, y) == pytest.approx(1.0, abs=1e-2)  # nothing is left to do


@pytest.mark.integration
@pytest.mark.parametrize(
    "name", [name for name in hy.heads.__all__ if getattr(getattr(hy.heads, name), "can_widen", False)]
)
def test_every_head_that_can_be_widened_is_calibrated(name):
    model = tiny_model(getattr(hy.heads, name)(*([2] if name in ("Categorical", "Ordinal") else [])))
    y = Y if model.head.classifies else X[:, 0]
    model.fit(X, y, epochs=2, verbose=0)
    calibrate(model, X, y)
    assert calibrate(model, X, y) == pytest.approx(1.0, abs=1e-2)


@pytest.mark.integration
def test_the_search_leaves_no_trace_of_a_factor_that_is_not_there():
    model = tiny_model(hy.heads.NormalMixture(2))
    before = model.get_weights()
    with pytest.raises(ValueError, match="best factor is not between"):
        calibrate(model, X, np.full(len(X), 1e9, "float32"))
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)
    with pytest.raises(ValueError, match="wanted one of Bernoulli, Categorical, Flow, HeteroscedasticNormal, Normal"):
        calibrate(tiny_model(hy.heads.ExponentialFamily("Poisson")), X, Y)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: calibrate(keras.Sequential(), X, Y), "model is a Sequential"),
        (lambda: calibrate(tiny_model(hy.heads.ExponentialFamily("Poisson")), X, Y), "the head is ExponentialFamily"),
        (lambda: calibrate(tiny_model(), X, None), "y is missing"),
        (lambda: calibrate(tiny_model(), X, Y + 5), "labels from 5 to 6"),
        (lambda: calibrate(tiny_model(), X, Y[:3]), "y has 3 rows"),
        (lambda: temperature([0.0, 1.0], [0]), "logits has shape .2,. and y has shape .1,.; wanted"),
        (lambda: calibrate(tiny_model(), tf.data.Dataset.from_tensors(X), Y), "x is a .*Dataset; wanted an array"),
        (lambda: temperature([[0.0, 1.0]], [2]), "labels from 2 to 2"),
        (lambda: temperature([[0.0, 1.0]], [0.7]), "float64 labels"),
        (lambda: temperature(np.eye(3), np.arange(3)), "right in all 3 rows"),
        (
            lambda: temperature([[0.0, 1.0], [0.0, 2.0]], [0, 0]),
            "logits have mean 0, .* mean 0.75 of all logits, so no T helps; wanted logits that predict y",
        ),
        (lambda: stddev_factor(np.zeros(3), np.ones((3, 1)), np.ones(3)), "stddev has shape .3, 1."),
        (lambda: temperature([[0.0, np.inf]], [0]), "logits holds inf, which is not finite"),
        (lambda: stddev_factor([0.0], [0.0], [1.0]), "stddev has values down to 0.0; wanted numbers above 0"),
        (lambda: stddev_factor([0.0], [1.0], [0.0]), "The best factor is 0.0"),
        (lambda: stddev_factor([0.0], [1.0], [0.0, 1.0]), "mean has shape"),
    ],
)
def test_wrong_arguments_are_explained(call, message):
    with pytest.raises(ValueError, match=message):
        call()
