"""Posteriors against closed forms, scipy, scikit-learn, statsmodels, autodiff, integration and draws."""

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import sklearn.linear_model
import statsmodels.api as sm
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import bayes, heads

tfb, tfd = tfp.bijectors, tfp.distributions
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
NUMBERS = 7 + 3 * (X @ [1.0, -2.0] + 0.5 * RNG.normal(size=60))
CLASSES = np.clip(np.round(1 + X[:, 0] + 0.5 * RNG.normal(size=60)), 0, 2).astype(int)
COUNTS = RNG.poisson(np.exp(0.5 + 0.4 * X[:, 0]))


def on_rows(head, size=2, dtype="float64"):
    """A model whose latent is x itself."""
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(size, dtype)), tfb.Identity())
    model = hy.HybridModel(p_x, head)
    model.compile("adam")
    model.optimizer.build(model.trainable_variables)
    return model


def adapted(head, y, **kwargs):
    model = on_rows(head, **kwargs)
    model.head.adapt(y)
    return model


CASES = {
    "normal": (lambda: heads.Normal(dtype="float64"), NUMBERS),
    "categorical": (lambda: heads.Categorical(3, dtype="float64"), CLASSES),
    "bernoulli": (lambda: heads.Bernoulli(dtype="float64"), (CLASSES > 1).astype(int)),
    "poisson": (lambda: heads.ExponentialFamily("Poisson", dtype="float64"), COUNTS),
    "heteroscedastic": (lambda: heads.HeteroscedasticNormal(dtype="float64"), NUMBERS),
    "mixture": (lambda: heads.NormalMixture(2, dtype="float64"), NUMBERS),
    "ordinal": (lambda: heads.Ordinal(3, dtype="float64"), CLASSES),
    "zero inflated": (lambda: heads.ZeroInflated(dtype="float64"), COUNTS),
    "normal of two": (lambda: heads.Normal((2,), dtype="float64"), np.stack([NUMBERS, X[:, 0]], 1)),
    "poisson of two": (
        lambda: heads.ExponentialFamily("Poisson", event_shape=(2,), dtype="float64"),
        np.stack([COUNTS, COUNTS[::-1]], 1),
    ),
}


def case(name):
    make, y = CASES[name]
    return adapted(make(), y), y


def phi(x):
    return np.concatenate([x, np.ones((len(x), 1))], 1)


def test_normal_predicts_what_the_joint_density_of_all_responses_says():
    """p(y* | y) = p(y*, y) / p(y), by scipy's multivariate t: the marginal of a normal-inverse-gamma prior."""
    model, y = case("normal")
    posterior = bayes.fit(model, X, y, prior=0.3, bias_prior=0.1)
    mean, stddev = (float(value) for value in (model.head.response_mean, model.head.response_stddev))

    def log_joint(x, y):
        features = phi(x)
        scale = np.eye(len(x)) + features @ np.diag(1 / np.array([0.3, 0.3, 0.1])) @ features.T
        standard = (y - mean) / stddev
        return scipy.stats.multivariate_t.logpdf(standard, shape=scale, df=2e-6) - len(y) * np.log(stddev)

    new = RNG.normal(size=(5, 2))
    p_y, _ = model.predict_distribution(new)
    for row, value in zip(range(5), (0.0, 5.0, 7.0, 9.0, 20.0), strict=True):
        wanted = log_joint(np.r_[X, new[row : row + 1]], np.r_[y, value]) - log_joint(X, y)
        assert p_y.log_prob(value)[row].numpy() == pytest.approx(wanted, abs=1e-6)
    assert posterior.log_evidence == pytest.approx(log_joint(X, y), abs=1e-6)


def test_a_flat_prior_gives_the_intervals_of_least_squares():
    model, y = case("normal")
    bayes.fit(model, X, y, prior="flat")
    fitted = sm.OLS(y, phi(X)).fit()
    new = RNG.normal(size=(5, 2))
    p_y, _ = model.predict_distribution(new)
    wanted = fitted.get_prediction(phi(new)).summary_frame(alpha=0.1)
    for quantile, name in ((0.05, "obs_ci_lower"), (0.95, "obs_ci_upper")):
        edge = scipy.stats.t.ppf(quantile, p_y.df.numpy(), p_y.loc.numpy(), p_y.scale.numpy())
        np.testing.assert_allclose(edge, wanted[name], rtol=1e-5)


def test_normal_is_bayesian_ridge():
    model, y = case("normal")
    ridge = sklearn.linear_model.BayesianRidge(tol=1e-10, max_iter=10_000).fit(X, y)
    posterior = bayes.fit(model, X, y, prior=ridge.lambda_ / ridge.alpha_, bias_prior=0.0)
    np.testing.assert_allclose(posterior.covariance.numpy()[:2, :2], ridge.sigma_ * ridge.alpha_, rtol=1e-6)
    np.testing.assert_allclose(model.predict_distribution(X)[0].mean(), ridge.predict(X), rtol=1e-6)
    by_evidence = bayes.fit(model, X, y, bias_prior=0.0)
    assert by_evidence.kernel_prior == pytest.approx(ridge.lambda_ / ridge.alpha_, rel=0.1)


@pytest.mark.parametrize("family, wanted", [
    ("Poisson", sm.families.Poisson()),
    (tfp.glm.NegativeBinomial(total_count=np.float64(3)), sm.families.NegativeBinomial(alpha=1 / 3)),
    ("Bernoulli", sm.families.Binomial()),
], ids=["poisson", "negative binomial", "logistic"])  # fmt: skip
def test_covariance_under_a_flat_prior_is_that_of_a_glm(family, wanted):
    y = (COUNTS > 1).astype(int) if family == "Bernoulli" else COUNTS
    model = on_rows(heads.ExponentialFamily(family, dtype="float64"))
    posterior = bayes.fit(model, X, y, prior="flat")
    fitted = sm.GLM(y, phi(X), family=wanted).fit(tol=1e-12)
    np.testing.assert_allclose(posterior.mean.numpy()[:, 0], fitted.params, rtol=1e-4)
    np.testing.assert_allclose(posterior.get("covariance"), fitted.cov_params(), rtol=1e-4)


FAMILIES = {
    "poisson": ("Poisson", 0.7),
    "softplus": ("PoissonSoftplus", 0.7),
    "negative binomial": (tfp.glm.NegativeBinomial(total_count=np.float64(3)), 0.7),
    "gamma": ("GammaExp", 0.7),
    "log-normal": ("LogNormal", 0.7),
    "probit": ("BernoulliNormalCDF", 0.7),
    "binomial": (tfp.glm.Binomial(total_count=np.float64(5)), 0.7),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_information_is_the_variance_of_the_score(name):
    family, eta = FAMILIES[name]
    head = heads.ExponentialFamily(family, dtype="float64")
    head.build((None, 1))
    check_information(head, [[eta]])


def test_information_of_a_changing_scale():
    head = heads.HeteroscedasticNormal(dtype="float64")
    head.build((None, 1))
    head.widen(1.5)
    check_information(head, [[0.3, -0.5]])


def check_information(head, eta):
    """Against 400,000 responses that the head itself draws."""
    eta = tf.constant(eta, tf.float64)
    y = tf.reshape(head.distribution(head.shaped(eta)).sample(400_000, seed=1), [-1])
    rows = tf.repeat(eta, len(y), 0)
    _, score = tfp.math.value_and_gradient(lambda eta: head.distribution(head.shaped(eta)).log_prob(y), rows)
    wanted = np.cov(score.numpy().T).reshape(eta.shape[1], -1)
    given = head.information(eta, y[:1])[0]
    np.testing.assert_allclose(given, wanted, atol=0.03 * np.abs(wanted).max())
    np.testing.assert_allclose(head.total_information(eta, y[:1], tf.constant([2.0], tf.float64)), 2 * given)


def test_information_without_a_formula_is_positive():
    head = heads.NormalMixture(3, dtype="float64")
    head.build((None, 1))
    eta = tf.constant(RNG.normal(size=(20, 9)))
    values = np.linalg.eigvalsh(head.information(eta, tf.constant(3 * RNG.normal(size=20))))
    assert values.min() > -1e-9 and values.max() > 0.1


@pytest.mark.parametrize("name", ["categorical", "bernoulli", "poisson of two"])
def test_mode_and_curvature_are_those_of_autodiff(name):
    """Of canonical links, whose information does not depend on y."""
    model, y = case(name)
    posterior = bayes.fit(model, X, y, prior=0.5, bias_prior=0.2)
    target = bayes.target_log_prob(model, X, y)
    shape = posterior.mean.shape
    flat = tf.reshape(tf.convert_to_tensor(posterior.mean), [-1])
    with tf.GradientTape() as outer:
        outer.watch(flat)
        gradient = tfp.math.value_and_gradient(lambda flat: target(tf.reshape(flat, shape)), flat)[1]
    np.testing.assert_allclose(gradient, np.zeros(flat.shape), atol=1e-4)
    precision = np.linalg.inv(posterior.get("covariance"))
    np.testing.assert_allclose(-outer.jacobian(gradient, flat), precision, rtol=1e-6, atol=1e-8)
    assert target(tf.zeros((4, 5, *shape), tf.float64)).shape == (4, 5)


def test_kronecker_is_the_inverse_of_the_product_and_the_prior():
    model, y = case("categorical")
    posterior = bayes.fit(model, X, y, prior=0.5, bias_prior=0.2, structure="kronecker")
    information = np.kron(posterior.get("left_information"), posterior.get("right_information"))
    wanted = np.linalg.inv(information + np.diag(np.repeat([0.5, 0.5, 0.2], 3))).reshape(3, 3, 3, 3)
    factor = posterior.predictor_factor(X[:4])
    of_rows = np.einsum("nf,fugv,ng->nuv", phi(X[:4]), wanted, phi(X[:4]))
    np.testing.assert_allclose(tf.matmul(factor, factor, transpose_b=True), of_rows, rtol=1e-6)
    drawn = posterior.distribution().sample(200_000, seed=3).numpy().reshape(-1, 9)
    np.testing.assert_allclose(np.cov(drawn.T), wanted.reshape(9, 9), atol=0.02)


def test_full_and_diagonal_covariances_of_predictors():
    model, y = case("categorical")
    for structure in ("full", "diagonal"):
        posterior = bayes.fit(model, X, y, prior=0.5, bias_prior=0.2, structure=structure)
        drawn = posterior.distribution().sample(200_000, seed=3).numpy()
        eta = np.einsum("f,sfu->su", phi(X[:1])[0], drawn)
        factor = posterior.predictor_factor(X[:1])[0].numpy()
        np.testing.assert_allclose(factor @ factor.T, np.cov(eta.T), atol=0.02)
        np.testing.assert_allclose(posterior.linear_predictor(X[:1])[0], eta.mean(0), atol=0.02)


@pytest.mark.parametrize("name", sorted(set(CASES) - {"normal", "normal of two"}))
def test_predictions_are_averages_over_the_posterior(name):
    """Against 20,000 draws of the coefficients; few rows leave them uncertain."""
    make, y = CASES[name]
    model = adapted(make(), y)
    posterior = bayes.fit(model, X[:25], y[:25], prior=0.5)
    drawn = posterior.distribution().sample(20_000, seed=1)
    rows = np.array([[0.5, -0.5], [2.0, 1.0], [-3.0, 2.0]])
    eta = model.head.shaped(tf.einsum("nf,sfu->snu", phi(rows), drawn))
    given = model.head.distribution(eta)
    p_y, _ = model.predict_distribution(rows)
    mean = np.mean(model.head.mean(given), 0)
    np.testing.assert_allclose(model.head.mean(p_y), mean, atol=0.03 if name == "categorical" else 0.04 * np.std(y))
    value = model.head.prepare_labels(y[:3])
    p = np.mean(given.prob(value), 0)
    np.testing.assert_allclose(p_y.prob(value), p, rtol=0.15, atol=0.03 * p.max())


def test_many_classes_are_averaged_over_nodes(monkeypatch):
    model, y = case("categorical")
    bayes.fit(model, X[:25], y[:25], prior=0.5)
    by_pairs = model.predict(X, verbose=0)
    monkeypatch.setattr("tfp_hybrid.heads.categorical._MOST_FOR_PAIRS", 2)
    np.testing.assert_allclose(model.predict_distribution(X)[0].probs_parameter(), by_pairs, atol=0.04)


@pytest.mark.parametrize("name", ["categorical", "poisson", "mixture"])
def test_trained_weights_are_the_center(name):
    """The information there is that of autodiff, and the prior of highest evidence is at a stationary point of it."""
    model, y = case(name)
    start = RNG.normal(size=model.head.kernel.shape)
    model.head.kernel.assign(start)
    posterior = bayes.fit(model, X, y, prior=0.5, bias_prior=0.2, center="weights")
    np.testing.assert_allclose(posterior.get("mean")[:-1], start)
    each = model.head.information(tf.constant(phi(X) @ posterior.get("mean")), model.head.prepare_labels(y)).numpy()
    wanted = np.einsum("nf,nuv,ng->fugv", phi(X), each, phi(X)).reshape(start.size + start.shape[1], -1)
    wanted += np.diag(np.repeat([0.5, 0.5, 0.2], start.shape[1]))
    np.testing.assert_allclose(posterior.get("covariance"), np.linalg.inv(wanted), rtol=1e-6, atol=1e-9)
    best = bayes.fit(model, X, y, center="weights")
    for factor in (0.7, 1.4):
        worse = bayes.fit(model, X, y, prior=factor * best.kernel_prior, center="weights")
        assert worse.log_evidence < best.log_evidence


def test_trained_weights_are_no_center_of_an_exact_posterior():
    model, y = case("normal")
    with pytest.raises(ValueError, match=r"center is 'weights'; wanted 'mode' for a Normal head"):
        bayes.fit(model, X, y, center="weights")


def test_evidence_is_the_integral():
    """Logistic regression on one feature, without bias: the integral over its coefficient and a tight bias."""
    x, y = X[:30, :1], (CLASSES[:30] > 1).astype(int)
    model = on_rows(heads.Bernoulli(dtype="float64"), 1)
    posterior = bayes.fit(model, x, y, prior=0.7, bias_prior=0.9)
    target = bayes.target_log_prob(model, x, y)
    constant = 0.5 * np.log([0.7, 0.9]).sum() - np.log(2 * np.pi)
    grid = np.linspace(-6, 8, 141)
    points = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1)[..., np.newaxis]
    values = np.exp(target(points).numpy() + constant)
    wanted = np.log(scipy.integrate.simpson(scipy.integrate.simpson(values, x=grid), x=grid))
    assert posterior.log_evidence == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("name", ["bernoulli", "normal"])
def test_evidence_chooses_the_prior(name):
    model, y = case(name)
    chosen = bayes.fit(model, X, y)
    others = [
        bayes.fit(model, X, y, prior=chosen.kernel_prior * factor).log_evidence for factor in (0.5, 0.8, 1.25, 2.0)
    ]
    assert chosen.log_evidence > max(others) - 0.05  # MacKay's iteration takes the information as constant


def test_validation_chooses_the_prior():
    model, y = case("bernoulli")
    held_out = X[40:], y[40:]
    bayes.fit(model, X[:40], y[:40], prior="validation", validation_data=held_out)
    best = model.evaluate(*held_out, verbose=0, return_dict=True)["nll"]
    for prior in (1e-3, 1.0, 1e3):
        bayes.fit(model, X[:40], y[:40], prior=prior)
        assert model.evaluate(*held_out, verbose=0, return_dict=True)["nll"] >= best - 1e-9


@pytest.mark.parametrize("name", ["normal", "normal of two"])
def test_update_of_an_exact_posterior_is_a_fit_to_all_rows(name):
    model, y = case(name)
    model.head.widen(1.3)
    bayes.fit(model, X[:40], y[:40], prior=0.3)
    updated = bayes.update(model, X[40:], y[40:])
    check_same(updated, bayes.fit(model, X, y, prior=0.3))


@pytest.mark.parametrize("structure", ["full", "kronecker", "diagonal"])
def test_update_of_an_approximation_comes_nearer(structure):
    model, y = case("bernoulli")
    before = bayes.fit(model, X[:50], y[:50], prior=0.5, structure=structure)
    updated = bayes.update(model, X[50:], y[50:]).mean.numpy()
    all_rows = bayes.fit(model, X, y, prior=0.5, structure=structure).mean.numpy()
    assert np.abs(updated - all_rows).max() < 0.8 * np.abs(before.mean.numpy() - all_rows).max()


@pytest.mark.parametrize("name", ["normal", "categorical", "heteroscedastic"])
def test_a_weight_of_two_is_a_row_that_stands_twice(name):
    model, y = case(name)
    weights = RNG.integers(0, 3, 60)
    weighted = bayes.fit(model, X, y, weights, prior=0.5)
    check_same(weighted, bayes.fit(model, np.repeat(X, weights, 0), np.repeat(y, weights, 0), prior=0.5))


def check_same(one, other):
    for first, second in zip(one.weights, other.weights, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=1e-6, atol=1e-8, err_msg=first.name)
    assert one.rows == other.rows


def test_data_sets_are_taken():
    model, y = case("categorical")
    data = tf.data.Dataset.from_tensor_slices((X, y)).batch(17)
    check_same(bayes.fit(model, data, prior=0.5), bayes.fit(model, X, y, prior=0.5))


@pytest.mark.parametrize(
    "name, structure",
    [("normal", "auto"), ("categorical", "auto"), ("categorical", "kronecker"), ("heteroscedastic", "diagonal")],
)
def test_saved_inside_of_the_model(name, structure, tmp_path):
    model, y = case(name)
    before = model.predict(X, verbose=0)
    posterior = bayes.fit(model, X, y, structure=structure)
    p_y, _ = model.predict_distribution(X)
    np.testing.assert_allclose(model.predict(X, verbose=0), model.head.mean(p_y), rtol=1e-6)
    nll = -np.mean(p_y.log_prob(model.head.prepare_labels(y)))
    assert model.evaluate(X, y, verbose=0, return_dict=True)["nll"] == pytest.approx(nll, rel=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict_distribution(X)[0].log_prob(y), p_y.log_prob(y))
    again = loaded.head.posterior
    assert again.get_config() == posterior.get_config() and len(loaded.weights) == len(model.weights)
    check_same(posterior, again)
    model.head.posterior = None
    np.testing.assert_array_equal(model.predict(X, verbose=0), before)
    assert not any("posterior" in weight.path for weight in model.weights)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["normal", "categorical", "heteroscedastic", "poisson"])
def test_xla_equals_graph_and_export(name, tmp_path):
    model, y = case(name)
    bayes.fit(model, X, y)
    wanted = model.head.mean(model.predict_distribution(X)[0])
    compiled = tf.function(lambda x: model.head.mean(model.head(x)), jit_compile=True)
    np.testing.assert_allclose(compiled(tf.constant(X)), wanted, rtol=1e-6)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(X), wanted, rtol=1e-6)


def test_training_makes_it_stale(tmp_path):
    model, y = case("categorical")
    bayes.fit(model, X, y)
    with pytest.warns(UserWarning, match=r"trained after `bayes.fit`, so the posterior of its head is stale"):
        model.fit(X, y, epochs=1, verbose=0)
    p_y, _ = model.predict_distribution(X)
    np.testing.assert_allclose(p_y.log_prob(y), model.head.at_point(X).log_prob(y))
    np.testing.assert_allclose(model.predict(X, verbose=0), p_y.probs_parameter(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"trained after `bayes.fit`; call `bayes.fit` again"):
        bayes.update(model, X, y)
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").head.posterior.is_stale


BAD = {
    "prior of zero": ({"prior": 0}, "prior is 0; wanted a precision > 0, or one of"),
    "negative prior": ({"prior": -1.0}, "prior is -1.0; wanted a precision > 0"),
    "unknown prior": ({"prior": "best"}, "prior is 'best'; wanted"),
    "bias prior": ({"bias_prior": -1}, "bias_prior is -1; wanted a precision >= 0"),
    "structure": ({"structure": "low rank"}, "structure is 'low rank'; wanted 'auto' or one of"),
    "validation without data": ({"prior": "validation"}, "validation_data is missing and prior is 'validation'"),
    "data without validation": ({"validation_data": (X, CLASSES)}, "validation_data is given and prior is 'evidence'"),
    "labels": ({"y": CLASSES + 1}, "y has labels from 1 to 3; wanted 0 .. 2"),
    "no labels": ({"y": None}, "y is missing"),
    "no weight": ({"sample_weight": np.zeros(60)}, "sample_weight is zero for all rows"),
    "flat classes": ({"prior": "flat"}, "The prior is flat, but the logits of a Categorical head may all rise"),
    "blocks": ({"structure": "blocks"}, "structure is 'blocks', but .* depend on one another"),
    "center": ({"center": "middle"}, "center is 'middle'; wanted one of"),
    "array of priors": ({"prior": np.array([1.0, 2.0])}, "wanted a precision > 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    changes, message = BAD[name]
    model, y = case("categorical")
    with pytest.raises(ValueError, match=message):
        bayes.fit(model, **({"x": X, "y": y} | changes))
    assert model.head.posterior is None


def test_singular_rows():
    model = on_rows(heads.ExponentialFamily("Poisson", dtype="float64"))
    with pytest.raises(ValueError, match="do not determine all coefficients"):
        bayes.fit(model, np.c_[X[:, 0], X[:, 0]], COUNTS, prior="flat")


@pytest.mark.parametrize("family", ["Bernoulli", "BernoulliNormalCDF"])
def test_steep_classes_in_float32(family):
    """Far out, float32 has no more digits for the variance of y."""
    x = RNG.normal(size=(500, 2)).astype("float32")
    y = (40 * x[:, 0] + RNG.normal(size=500) > 0).astype(int)
    model = on_rows(heads.ExponentialFamily(family), dtype="float32")
    bayes.fit(model, x, y)
    assert np.isfinite(model.predict(100 * x, verbose=0)).all()
    assert np.mean((model.predict(x, verbose=0) > 0.5) != y) < 0.05


def test_weights_of_a_model_that_was_trained_since_are_stale(tmp_path):
    model, y = case("categorical")
    bayes.fit(model, X, y)
    model.save(tmp_path / "before.keras")
    with pytest.warns(UserWarning, match="stale"):
        model.fit(X, y, epochs=1, verbose=0)
    model.save_weights(tmp_path / "after.weights.h5")
    loaded = keras.models.load_model(tmp_path / "before.keras")
    assert not loaded.head.posterior.is_stale
    loaded.load_weights(tmp_path / "after.weights.h5")
    assert loaded.head.posterior.is_stale
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-6)
    anew = type(model).from_config(model.get_config())
    assert not anew.head.is_integrated, "a posterior without its weights is none"


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("head", [heads.ExponentialFamily("Poisson"), heads.NormalMixture(2)])
def test_weights_that_overflow_are_named(head):
    model = on_rows(head, dtype="float32")
    model.head.kernel.assign(np.full(model.head.kernel.shape, 1e30))
    with pytest.raises(ValueError, match=r"log p\(y\|x\) is not finite near its weights; wanted a trained model"):
        bayes.fit(model, X, np.arange(len(X)) % 2, prior=1.0)


def test_bad_models():
    model, y = case("categorical")
    with pytest.raises(ValueError, match="wanted a `HybridModel`"):
        bayes.fit(hy.DensityModel(model.distribution), X, y)
    with pytest.raises(ValueError, match=r"the head has no posterior; call `bayes.fit` first"):
        bayes.update(model, X, y)
    with pytest.raises(ValueError, match=r"prior is None, but the head has no posterior"):
        bayes.target_log_prob(model, X, y)
    with pytest.raises(ValueError, match="`posterior` is 3; wanted a `Posterior` or None"):
        model.head.posterior = 3
    other = on_rows(heads.Categorical(4, dtype="float64"))
    with pytest.raises(ValueError, match=r"`posterior` is one of .* wanted"):
        other.head.posterior = bayes.fit(model, X, y)
    with pytest.raises(ValueError, match="has weight_stddev = 0.5, an uncertainty of its own"):
        bayes.fit(on_rows(heads.Categorical(3, weight_stddev=0.5)), X, y)
    with pytest.raises(ValueError, match="structure is 'diagonal'; wanted 'auto' for a Normal head"):
        bayes.fit(case("normal")[0], X, NUMBERS, structure="diagonal")
    with pytest.raises(ValueError, match="calibrate: the head has a posterior; wanted none"):
        hy.uncertainty.calibrate(model, X, y)
