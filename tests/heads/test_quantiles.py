"""Quantiles against scipy's, which has other algorithms; those of mixtures against the cdf."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import bayes
from tfp_hybrid.heads.quantiles import quantile
from tfp_hybrid.uncertainty import regression

tfd = tfp.distributions
Q = np.array([0.001, 0.05, 0.5, 0.9, 0.999])
RATE = np.array([0.01, 0.7, 3.0, 40.0, 12_345.0])


@pytest.mark.parametrize(
    ("ours", "scipys"),
    [
        (tfd.Poisson(RATE), scipy.stats.poisson(RATE)),
        (tfd.NegativeBinomial(3.0, probs=RATE / (RATE + 3)), scipy.stats.nbinom(3, 3 / (RATE + 3))),
        (tfd.Binomial(20.0, probs=np.array([0.01, 0.5, 0.9])), scipy.stats.binom(20, [0.01, 0.5, 0.9])),
        (tfd.Bernoulli(probs=np.array([0.02, 0.5001, 0.97])), scipy.stats.bernoulli([0.02, 0.5001, 0.97])),
        (tfd.Normal(RATE, 2.0), scipy.stats.norm(RATE, 2.0)),
        (tfd.Gamma(2.5, RATE), scipy.stats.gamma(2.5, scale=1 / RATE)),
        (tfd.LogNormal(np.log(RATE), 0.7), scipy.stats.lognorm(0.7, scale=RATE)),
        (tfd.Independent(tfd.Normal(np.ones((4, 2)), 2.0), 1), scipy.stats.norm(np.ones((4, 2)), 2.0)),
    ],
    ids=lambda one: one.name if isinstance(one, tfd.Distribution) else "",
)
def test_quantiles_equal_scipys(ours, scipys):
    expected = scipys.ppf(Q.reshape(-1, *(1 for _ in scipys.mean().shape)))
    np.testing.assert_allclose(quantile(ours, Q), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(quantile(ours, 0.9), quantile(ours, Q)[3])


@pytest.mark.parametrize(
    "parts",
    [
        tfd.Normal(np.array([[-5.0, 5.0], [1e6, -1e6], [0.0, 0.0]]), np.array([[1.0, 0.01], [1.0, 1e-3], [1.0, 1e4]])),
        tfd.LogNormal(np.array([[0.0, 5.0]]), np.array([[1.0, 0.1]])),
    ],
    ids=["Normal", "LogNormal"],
)
def test_the_cdf_of_a_mixture_is_q_at_its_quantile(parts):
    mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=np.array([0.3, 0.7])), parts)
    np.testing.assert_allclose(mixture.cdf(quantile(mixture, Q)), np.broadcast_to(Q[:, None], (5, len(parts.mean()))))


def test_a_quantile_of_a_mixture_of_counts_is_the_first_that_reaches_q():
    rates = np.array([[0.5, 30.0], [2.0, 2000.0]])
    mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=np.array([0.4, 0.6])), tfd.Poisson(rates))
    found = quantile(mixture, Q)
    cdf = 0.4 * scipy.stats.poisson(rates[:, 0]).cdf(found) + 0.6 * scipy.stats.poisson(rates[:, 1]).cdf(found)
    below = 0.4 * scipy.stats.poisson(rates[:, 0]).cdf(found - 1) + 0.6 * scipy.stats.poisson(rates[:, 1]).cdf(
        found - 1
    )
    assert (found == np.round(found)).all() and (cdf >= Q[:, None]).all() and (below < Q[:, None]).all()


def test_a_row_without_parameters_has_no_quantile():
    assert np.isnan(quantile(tfd.Poisson([1.0, np.nan]), 0.5)).tolist() == [False, True]
    mixture = tfd.MixtureSameFamily(tfd.Categorical([0.0, 0.0]), tfd.Normal([[0.0, 1.0], [np.nan, 1.0]], 1.0))
    assert np.isnan(quantile(mixture, 0.5)).tolist() == [False, True]


@pytest.mark.parametrize("wrong", [tfd.Categorical([[0.0, 0.0]]), tfd.MultivariateNormalDiag(tf.zeros((3, 2)))])
def test_classes_and_vectors_have_none(wrong):
    with pytest.raises(ValueError, match="wanted one of numbers"):
        quantile(wrong, 0.5)


def model_of(head):
    return hy.HybridModel(hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))), head)


def rows(family):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2)).astype("float32")
    mean = np.exp(0.5 * x[:, 0])
    return x, rng.poisson(mean) if family == "Poisson" else (mean + rng.gamma(1.0, size=300)).astype("float32")


@pytest.mark.parametrize(
    "head",
    [
        hy.heads.Normal,
        hy.heads.HeteroscedasticNormal,
        hy.heads.NormalMixture,
        lambda: hy.heads.ExponentialFamily("GammaExp"),
        lambda: hy.heads.ExponentialFamily("Poisson"),
        lambda: hy.heads.ExponentialFamily(tfp.glm.NegativeBinomial(total_count=2.0)),
    ],
    ids=["Normal", "HeteroscedasticNormal", "NormalMixture", "GammaExp", "Poisson", "NegativeBinomial"],
)
def test_intervals_of_a_model_cover_as_the_metric_says(head):
    head = head()
    counts = isinstance(head, hy.heads.ExponentialFamily) and "Gamma" not in type(head.family).__name__
    x, y = rows("Poisson" if counts else "")
    model = model_of(head)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, y, epochs=3, verbose=0)
    low, high = model.predict_interval(x, 0.8)
    inside = np.mean((low <= y) & (y <= high))
    assert inside == pytest.approx(regression.interval_coverage(model.predict_distribution(x)[0], y, 0.8), abs=1e-9)
    np.testing.assert_array_equal(model.predict_quantile(x, [0.1, 0.9]), [low, high])
    assert model.predict_quantile(x, 0.5, batch_size=7).shape == (300,)


def test_a_posterior_of_counts_has_wider_intervals():
    x, y = rows("Poisson")
    model = model_of(hy.heads.ExponentialFamily("Poisson"))
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x[:5], y[:5], epochs=1, verbose=0)
    bayes.fit(model, x[:5], y[:5])
    p_y, _ = model.predict_distribution(x)
    low, high = model.predict_interval(x, 0.9)
    assert (p_y.cdf(high) >= 0.95 - 1e-6).numpy().all() and (p_y.cdf(low) >= 0.05 - 1e-6).numpy().all()
    assert (high == np.round(high)).all()
    assert (model.predict_quantile(x, 0.999) > scipy.stats.poisson(p_y.mean()).ppf(0.999)).all()


@pytest.mark.parametrize("q", [0.0, 1.0, [0.5, 1.5], [], "half", np.nan, [[0.5]]])
def test_a_wrong_probability_is_named(q):
    with pytest.raises(ValueError, match="q "):
        model_of(hy.heads.Normal()).predict_quantile(np.zeros((2, 2), "float32"), q)


@pytest.mark.parametrize("level", [0, 1, 1.5, "wide", [0.5, 0.9]])
def test_a_wrong_level_is_named(level):
    with pytest.raises(ValueError, match="level"):
        model_of(hy.heads.Normal()).predict_interval(np.zeros((2, 2), "float32"), level)


@pytest.mark.parametrize("head", [hy.heads.Categorical(3), hy.heads.Bernoulli()], ids=["Categorical", "Bernoulli"])
def test_a_classifier_has_no_interval(head):
    with pytest.raises(ValueError, match="the head is .*, of classes"):
        model_of(head).predict_interval(np.zeros((2, 2), "float32"))
