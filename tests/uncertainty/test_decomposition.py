"""The two parts of uncertainty, against draws of the coefficients and closed forms."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import bayes, heads, uncertainty
from tfp_hybrid.uncertainty import pictures

tfb, tfd = tfp.bijectors, tfp.distributions
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
CLASSES = np.clip(np.round(1 + X[:, 0]), 0, 2).astype(int)
Y = {
    "normal": (heads.Normal, 7 + 3 * (X @ [1.0, -2.0] + 0.5 * RNG.normal(size=60))),
    "heteroscedastic": (heads.HeteroscedasticNormal, 7 + 3 * (X @ [1.0, -2.0] + 0.5 * RNG.normal(size=60))),
    "normal of two": (lambda **options: heads.Normal((2,), **options), RNG.normal(size=(60, 2))),
    "poisson": (lambda **options: heads.ExponentialFamily("Poisson", **options), RNG.poisson(np.exp(0.4 * X[:, 0]))),
    "bernoulli": (heads.Bernoulli, (X[:, 0] + RNG.normal(size=60) > 0).astype(int)),
    "categorical": (lambda **options: heads.Categorical(3, **options), CLASSES),
}


def fitted(name, rows=60):
    make, y = Y[name]
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(2)), tfb.Identity())
    model = hy.HybridModel(p_x, make(dtype="float64"))
    model.head.adapt(y)
    bayes.fit(model, X[:rows], y[:rows], prior=0.5)
    return model


@pytest.mark.parametrize("name", Y)
def test_parts_add_up_and_are_those_of_draws(name):
    model = fitted(name, 25)
    parts = uncertainty.decompose(model, X[:5])
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.epistemic, rtol=1e-12)
    assert (parts.aleatoric > 0).all() and (parts.epistemic > 0).all()
    head, phi = model.head, np.c_[X[:5], np.ones(5)]
    drawn = head.posterior.distribution().sample(40_000, seed=2)
    if isinstance(drawn, dict):
        noise = drawn["variances"].numpy() * head.response_stddev.numpy() ** 2
        mean = np.einsum("nf,sfu->snu", phi, drawn["coefficients"]) * head.response_stddev.numpy()
        np.testing.assert_allclose(head.shaped(noise).numpy().mean(0), parts.aleatoric[0], rtol=0.05)
        np.testing.assert_allclose(head.shaped(mean).numpy().var(0), parts.epistemic, rtol=0.05)
        return
    given = head.distribution(head.shaped(tf.einsum("nf,sfu->snu", phi, drawn)))
    if head.classifies:
        aleatoric = given.entropy().numpy().mean(0)
        mean = given.probs_parameter().numpy().mean(0)
        mean = mean if mean.ndim == 2 else np.stack([1 - mean, mean], -1)
        total = -(mean * np.log(mean)).sum(-1)
    else:
        aleatoric = given.variance().numpy().mean(0)
        total = aleatoric + given.mean().numpy().var(0)
    tolerance = 0.1 if name == "categorical" else 0.05
    np.testing.assert_allclose(parts.aleatoric, aleatoric, rtol=tolerance)
    np.testing.assert_allclose(parts.epistemic, total - aleatoric, rtol=2.5 * tolerance, atol=0.003)


@pytest.mark.parametrize("name", ["normal", "normal of two", "heteroscedastic", "poisson"])
def test_total_is_the_predictive_variance(name):
    model = fitted(name)
    parts = uncertainty.decompose(model, X)
    np.testing.assert_allclose(parts.total, model.predict_distribution(X)[0].variance(), rtol=1e-6)


def test_epistemic_part_falls_with_rows():
    few, many = (uncertainty.decompose(fitted("categorical", rows), X).epistemic.mean() for rows in (15, 60))
    assert many < 0.6 * few


def test_a_list_of_models_is_a_mixture_of_them():
    models = [fitted("bernoulli", 20), fitted("bernoulli", 40)]
    for model in models:
        model.head.kernel.assign(RNG.normal(size=(2, 1)))
        model.head.posterior = None
    probs = np.stack([model.predict(X, verbose=0) for model in models])

    def entropy(p):
        return -(p * np.log(p) + (1 - p) * np.log1p(-p))

    parts = uncertainty.decompose(models, X)
    np.testing.assert_allclose(parts.total, entropy(probs.mean(0)), rtol=1e-5)
    np.testing.assert_allclose(parts.aleatoric, entropy(probs).mean(0), rtol=1e-5)
    assert not uncertainty.decompose(models[0], X).epistemic.any()


@pytest.mark.parametrize("name", Y)
def test_two_equal_models_are_one(name):
    model = fitted(name, 25)
    for one, two in zip(uncertainty.decompose(model, X), uncertainty.decompose([model, model], X), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-9)


@pytest.mark.parametrize("make", [heads.Bernoulli, lambda: heads.Categorical(2)])
def test_parts_of_sure_predictions_are_not_negative(make):
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag([0.0, 0.0]), tfb.Identity())
    model = hy.HybridModel(p_x, make())
    x = RNG.normal(size=(3000, 2)).astype("float32")
    bayes.fit(model, x, (RNG.uniform(size=3000) < 1 / (1 + np.exp(-3 * x[:, 0]))).astype(int))
    far = np.array([[6.0, 0.0], [10.0, 0.0], [40.0, 1.0]], "float32")
    parts = uncertainty.decompose(model, far)
    assert np.min(parts) >= 0 and np.isfinite(parts).all()
    p_y, _ = model.predict_distribution(far)
    log_probs = np.stack([p_y.log_prob(0), p_y.log_prob(1)])
    assert np.isfinite(log_probs).all() and log_probs.max() <= 0


def test_scores_are_the_parts():
    model = fitted("normal of two")
    parts = uncertainty.decompose(model, X)
    table = uncertainty.score_table(model, X, uncertainty.all_scores(model))
    np.testing.assert_allclose(table["epistemic uncertainty"], parts.epistemic.sum(-1))
    np.testing.assert_allclose(table["aleatoric uncertainty"], parts.aleatoric.sum(-1))


def test_scores_of_a_posterior_still_see_the_energy():
    model = fitted("categorical")
    eta = np.c_[X, np.ones(60)] @ model.head.posterior.mean.numpy()
    np.testing.assert_allclose(uncertainty.Energy().score(model, X), -np.logaddexp.reduce(eta, -1))


def test_bad_lists():
    with pytest.raises(ValueError, match="model is an empty list"):
        uncertainty.decompose([], X)
    with pytest.raises(ValueError, match=r"are Bernoulli \(2\) of shape \(\) and Categorical \(3\) of"):
        uncertainty.decompose([fitted("bernoulli"), fitted("categorical")], X)


def test_picture():
    parts = uncertainty.decompose(fitted("categorical"), X)
    figure = pictures.decomposition({"here": parts, "there": parts})
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["here", "there"]
    with pytest.raises(ValueError, match="sets is empty"):
        pictures.decomposition({})
    with pytest.raises(ValueError, match=r"sets\['two'\] has shape \(60, 2\); wanted \(n,\)"):
        pictures.decomposition({"two": uncertainty.decompose(fitted("normal of two"), X)})
