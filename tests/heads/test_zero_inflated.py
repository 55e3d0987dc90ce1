"""Zero-inflated counts, against their formula and draws."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import bayes, heads
from tfp_hybrid.uncertainty import regression

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1000, 2)).astype("float32")
NEVER = RNG.uniform(size=1000) < 0.4
Y = np.where(NEVER, 0, RNG.poisson(np.exp(1 + 0.5 * X[:, 0])))
FAMILIES = {
    "Poisson": ("Poisson", lambda eta: scipy.stats.poisson(np.exp(eta))),
    "NegativeBinomial": (
        tfp.glm.NegativeBinomial(total_count=np.float32(3)),
        lambda eta: scipy.stats.nbinom(3, 3 / (3 + np.exp(eta))),
    ),
    "Binomial": (
        tfp.glm.Binomial(total_count=np.float32(5)),
        lambda eta: scipy.stats.binom(5, 1 / (1 + np.exp(-eta))),
    ),
}


def built(head):
    head.build((None, 2))
    head.built = True
    head.kernel.assign(0.5 * RNG.normal(size=head.kernel.shape))
    return head


def model_of(head):
    model = hy.HybridModel(hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))), head, 0.1)
    model.compile(keras.optimizers.Adam(2e-2))
    return model


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("event_shape", [(), (2,)])
def test_it_is_the_mixture_of_the_formula(name, event_shape):
    family, counts = FAMILIES[name]
    head = built(heads.ZeroInflated(family, event_shape))
    eta = (X[:6] @ head.kernel.numpy() + head.bias.numpy()).reshape(6, *event_shape, 2)
    w, counts = 1 / (1 + np.exp(-eta[..., 0])), counts(eta[..., 1])
    y = np.broadcast_to(np.array([0, 1, 0, 3, 5, 2]).reshape(6, *(1 for _ in event_shape)), (6, *event_shape))
    p_y = head(tf.constant(X[:6]))
    log_prob = np.log(w * (y == 0) + (1 - w) * counts.pmf(y))
    np.testing.assert_allclose(p_y.log_prob(head.prepare_labels(y)), log_prob.reshape(6, -1).sum(1), rtol=1e-4)
    np.testing.assert_allclose(head.mean(p_y), (1 - w) * counts.mean(), rtol=1e-4)
    variance = (1 - w) * (counts.var() + w * counts.mean() ** 2)
    np.testing.assert_allclose(p_y.variance(), variance, rtol=1e-4)


def test_it_starts_with_few_extra_zeros():
    head = heads.ZeroInflated(event_shape=2)
    head.build((None, 3))
    p_y = head.at_point(tf.zeros((1, 3)))
    np.testing.assert_allclose(p_y.distribution.mean(), [2 * [1 - 1 / (1 + np.exp(2))]], rtol=1e-5)


def test_a_model_tells_both_kinds_of_zeros_and_is_saved(tmp_path):
    model = model_of(heads.ZeroInflated())
    model.fit(X, Y, epochs=30, verbose=0)
    plain = model_of(heads.ExponentialFamily("Poisson"))
    plain.fit(X, Y, epochs=30, verbose=0)
    p_y, other = model.predict_distribution(X)[0], plain.predict_distribution(X)[0]
    assert regression.nll(p_y, Y) < regression.nll(other, Y) - 0.1
    w = tf.sigmoid(model.head.linear_predictor(model.encode(X).features)[:, 0]).numpy().mean()
    assert w == pytest.approx(0.4, abs=0.08)
    assert regression.interval_coverage(p_y, Y, 0.8) > 0.8 > regression.interval_coverage(other, Y, 0.8)
    low, high = model.predict_interval(X, 0.9)
    assert (low == 0).all() and np.mean(Y <= high) > 0.92
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_quantile(X, 0.7), model.predict_quantile(X, 0.7))


def test_pit_of_its_own_draws_is_uniform_and_crps_that_of_draws():
    p_y = built(heads.ZeroInflated()).at_point(tf.constant(X))
    y = np.asarray(p_y.sample(seed=(0, 0)), float)
    assert scipy.stats.kstest(regression.pit(p_y, y), "uniform").pvalue > 0.01
    a, b = (np.asarray(p_y.sample(2000, seed=(1, part)), float) for part in range(2))
    assert regression.crps(p_y, y) == pytest.approx(np.mean(np.abs(a - y)) - np.mean(np.abs(a - b)) / 2, rel=0.01)


def test_a_posterior_is_an_average_over_both_predictors():
    model = model_of(heads.ZeroInflated())
    model.fit(X[:50], Y[:50], epochs=5, verbose=0)
    point = model.predict_distribution(X)[0]
    bayes.fit(model, X[:50], Y[:50])
    p_y, _ = model.predict_distribution(X)
    assert np.mean(p_y.variance()) > np.mean(point.variance())
    low, high = model.predict_interval(X, 0.9)
    assert (p_y.cdf(high) >= 0.95 - 1e-6).numpy().all() and (high == np.round(high)).all()


@pytest.mark.parametrize("family", ["GammaExp", "Bernoulli", "Normal"])
def test_other_families_are_refused(family):
    with pytest.raises(ValueError, match=f"ZeroInflated: `family` is {family}; wanted a family of counts"):
        heads.ZeroInflated(family)


def test_labels_are_counts():
    with pytest.raises(ValueError, match="wanted whole numbers for the family Poisson"):
        built(heads.ZeroInflated()).check_labels(np.array([0.5]))
