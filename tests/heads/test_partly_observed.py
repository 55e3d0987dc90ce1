"""Responses of which some entries are missing, against the heads of the entries that are there."""

import keras
import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import heads
from tfp_hybrid.heads.exponential_family import FAMILIES

tfd = tfp.distributions
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(40, 2))
NUMBERS = np.stack([10 + 3 * Z[:, 0], Z[:, 1] - 5, Z.sum(1)], 1) + 0.1 * RNG.normal(size=(40, 3))
SEEN = RNG.uniform(size=NUMBERS.shape) < 0.5
CASES = {
    "normal": (lambda **kwargs: heads.Normal((3,), **kwargs), NUMBERS),
    "bernoulli": (lambda **kwargs: heads.Bernoulli((3,), **kwargs), (NUMBERS > NUMBERS.mean(0)).astype(float)),
    "poisson": (
        lambda **kwargs: heads.ExponentialFamily("Poisson", (3,), **kwargs),
        RNG.poisson(2, size=NUMBERS.shape).astype(float),
    ),
}


def with_holes(y):
    return np.where(SEEN, y, np.nan)


def case(name):
    make, y = CASES[name]
    head = heads.PartlyObserved(make(kernel_initializer="glorot_normal", dtype="float64"))
    head.build((None, 2))
    head.built = True
    return head, y


@pytest.mark.parametrize("name", CASES)
def test_log_prob_and_its_gradient_are_those_of_what_was_observed(name):
    head, y = case(name)
    holes = with_holes(y)
    holes[1] = np.nan  # a row without any
    with tf.GradientTape() as tape:
        log_prob = head(tf.constant(Z)).log_prob(holes)
    gradient = tape.gradient(log_prob, head.kernel.value)
    seen = ~np.isnan(holes)
    with tf.GradientTape() as tape:
        each = head.head(tf.constant(Z)).distribution.log_prob(y)
        total = tf.reduce_sum(tf.boolean_mask(each, seen))
    np.testing.assert_allclose(log_prob, np.where(seen, each, 0).sum(1), rtol=1e-9)
    np.testing.assert_allclose(gradient, tape.gradient(total, head.kernel.value), rtol=1e-9)
    assert log_prob[1] == 0


@pytest.mark.parametrize("name", CASES)
def test_information_is_minus_the_hessian_for_a_canonical_link(name):
    head, y = case(name)
    holes = tf.constant(with_holes(y))
    eta = tf.constant(RNG.normal(size=(40, 3)))
    with tf.GradientTape() as outer:
        outer.watch(eta)
        with tf.GradientTape() as inner:
            inner.watch(eta)
            log_prob = head.distribution(eta).log_prob(holes)
        gradient = inner.gradient(log_prob, eta)
    np.testing.assert_allclose(head.information(eta, holes), -outer.batch_jacobian(gradient, eta), atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_information_of_every_family_is_that_of_what_was_observed(family):
    head = heads.PartlyObserved(heads.ExponentialFamily(family, (2,), dtype="float64"))
    head.build((None, 2))
    eta = tf.constant([[0.7, 0.4], [0.5, 0.6]], tf.float64)
    y = head.head.distribution(eta).mean().numpy()
    y = np.round(y) if head.head.family.as_distribution(eta).dtype.is_integer else y
    whole = head.head.information(eta, y).numpy()
    found = head.information(eta, tf.constant(np.where(np.eye(2), y, np.nan))).numpy()
    wanted = np.zeros_like(whole)
    wanted[0, 0, 0], wanted[1, 1, 1] = whole[0, 0, 0], whole[1, 1, 1]
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_a_fit_is_that_of_each_entry_by_itself():
    """The mode of each arm is the GLM of the rows that show it, by the heads of one response."""
    _, y = CASES["bernoulli"]
    model = _model(heads.PartlyObserved(heads.Bernoulli((3,), dtype="float64")))
    found = hy.bayes.fit(model, Z, with_holes(y), prior=0.5)
    for entry in range(3):
        one = _model(heads.Bernoulli(dtype="float64"))
        rows = SEEN[:, entry]
        wanted = hy.bayes.fit(one, Z[rows], y[rows, entry], prior=0.5)
        np.testing.assert_allclose(found.get("mean")[:, entry], wanted.get("mean")[:, 0], rtol=1e-6)
        np.testing.assert_allclose(
            found.get("covariance").reshape(3, 3, 3, 3)[:, entry, :, entry], wanted.get("covariance"), rtol=1e-6
        )


def test_an_average_over_the_posterior_takes_arrays_with_holes():
    """Also for entries that are integers, whose mixtures would make integers of y; the prior is chosen by that."""
    _, y = CASES["bernoulli"]
    model, holes = _model(heads.PartlyObserved(heads.Bernoulli((3,), dtype="float64"))), with_holes(y)
    hy.bayes.fit(model, Z, holes, prior=0.5)
    eta, weights = model.head.posterior.nodes(tf.constant(Z))
    each = tfd.Bernoulli(logits=eta).log_prob(np.nan_to_num(y)[:, np.newaxis])
    wanted = np.log(np.exp(np.where(SEEN[:, np.newaxis], each, 0).sum(-1)) @ weights)
    np.testing.assert_allclose(model.predict_distribution(Z)[0].log_prob(holes), wanted, rtol=1e-6)
    found = hy.bayes.fit(model, Z[:20], holes[:20], prior="validation", validation_data=(Z[20:], holes[20:]))
    nll = {}
    for prior in (0.1 * found.kernel_prior, found.kernel_prior, 10 * found.kernel_prior):
        hy.bayes.fit(model, Z[:20], holes[:20], prior=prior)
        nll[prior] = -np.mean(model.predict_distribution(Z[20:])[0].log_prob(holes[20:]))
    assert min(nll, key=nll.get) == pytest.approx(found.kernel_prior)


def test_calibration_is_refused():
    model = _model(heads.PartlyObserved(heads.Normal((3,), dtype="float64")))
    with pytest.raises(ValueError, match="PartlyObserved"):
        hy.uncertainty.calibrate(model, Z, with_holes(NUMBERS))


def test_scale_and_mean_are_those_of_what_was_observed():
    head, y = case("normal")
    y = with_holes(y)
    y[:, 2] = np.nan
    head.adapt(y)
    assert head.is_adapted()
    for entry in range(2):
        assert float(head.head.response_mean[entry]) == pytest.approx(np.nanmean(y[:, entry]), rel=1e-9)
        assert float(head.head.response_stddev[entry]) == pytest.approx(np.nanstd(y[:, entry]), rel=1e-9)
    assert float(head.head.response_stddev[2]) == 1


@pytest.mark.parametrize("name", ["normal", "bernoulli"])
def test_metric_is_that_of_what_was_observed(name):
    head, y = case(name)
    predicted, holes = head.mean(head(Z)), with_holes(y)
    metric = head.metric()
    metric.update_state(head.prepare_labels(holes), predicted)
    seen, there = y[SEEN], predicted.numpy()[SEEN]
    if name == "normal":
        wanted = sklearn.metrics.root_mean_squared_error(seen, there)
    else:
        wanted = sklearn.metrics.accuracy_score(seen, there > 0.5)
    assert float(metric.result()) == pytest.approx(wanted, rel=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


@pytest.mark.parametrize("name", CASES)
def test_trains_saves_and_loads(name, tmp_path):
    make, y = CASES[name]
    model = _model(heads.PartlyObserved(make()), "float32")
    model.compile(keras.optimizers.Adam(0.1), jit_compile=True)
    history = model.fit(Z.astype("float32"), with_holes(y), epochs=3, verbose=0).history
    assert history["nll"][-1] < history["nll"][0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(Z, verbose=0), model.predict(Z, verbose=0))
    assert loaded.evaluate(Z, with_holes(y), verbose=0) == model.evaluate(Z, with_holes(y), verbose=0)
    assert len(loaded.head.weights) == len(model.head.weights)


def test_heads_around_heads_name_the_innermost_one():
    inner = heads.Bernoulli((3,))
    assert heads.Variational(heads.PartlyObserved(inner), train_size=10).unwrapped() is inner
    assert inner.unwrapped() is inner


@pytest.mark.parametrize("make", [
    lambda: heads.PartlyObserved(heads.Normal()),
    lambda: heads.PartlyObserved(heads.Categorical(3)),
    lambda: heads.PartlyObserved(heads.HeteroscedasticNormal((2,))),
    lambda: heads.PartlyObserved(heads.PartlyObserved(heads.Normal((2,)))),
    lambda: heads.PartlyObserved(heads.Variational(heads.Normal((2,)), train_size=10)),
    lambda: heads.PartlyObserved("normal"),
])  # fmt: skip
def test_other_heads_are_refused(make):
    with pytest.raises(ValueError, match=r"PartlyObserved: `head` is .*wanted a head of several responses"):
        make()


def test_bad_labels():
    head, y = case("bernoulli")
    for bad, said in ((0.5, "wanted labels 0 and 1"), (np.inf, "wanted finite numbers")):
        with pytest.raises(ValueError, match=said):
            head.check_labels(np.array([[np.nan, bad, 1.0]]))
    model = _model(heads.PartlyObserved(heads.Bernoulli((3,))), "float32")
    model.compile("adam")
    with pytest.raises(ValueError, match=r"y has shape .*wanted \('n', 3\)"):
        model.fit(Z, y[:, :2], verbose=0)


def _model(head, dtype="float64"):
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(2, dtype)), tfp.bijectors.Identity())
    return hy.HybridModel(p_x, head)
