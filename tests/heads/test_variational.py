"""Trained posteriors against closed forms, scipy, TFP, draws and Laplace's approximation."""

import keras
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import randomize, weights_of

import tfp_hybrid as hy
from tfp_hybrid import active, bayes, heads, uncertainty

tfb, tfd = tfp.bijectors, tfp.distributions
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2)) @ [[1.0, 0.6], [0.0, 0.8]]
PHI = np.c_[X, np.ones(60)]
NUMBERS = X @ [1.0, -2.0] + 0.3 + 0.5 * RNG.normal(size=60)
CLASSES = np.clip(np.round(1 + X[:, 0] + 0.5 * RNG.normal(size=60)), 0, 2).astype(int)
COUNTS = RNG.poisson(np.exp(0.5 + 0.4 * X[:, 0]))

# Name: the head inside, and responses.
CASES = {
    "normal": (heads.Normal, NUMBERS),
    "normal of three": (lambda **options: heads.Normal((3,), **options), np.stack([NUMBERS, X[:, 0], -NUMBERS], 1)),
    "categorical": (lambda **options: heads.Categorical(3, **options), CLASSES),
    "bernoulli": (heads.Bernoulli, (CLASSES > 1).astype(int)),
    "poisson": (lambda **options: heads.ExponentialFamily("Poisson", **options), COUNTS),
    "heteroscedastic": (heads.HeteroscedasticNormal, NUMBERS),
    "mixture": (lambda **options: heads.NormalMixture(2, **options), NUMBERS),
}


def case(name, structure="auto", train_size=60, **options):
    """A built head in float64, and prepared responses."""
    make, y = CASES[name]
    head = heads.Variational(make(dtype="float64"), train_size, structure=structure, **options)
    head.build((None, 2))
    return head, head.prepare_labels(y)


def on_rows(head, size=2):
    """A model whose latent is x itself."""
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(size)), tfb.Identity())
    model = hy.HybridModel(p_x, head)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def bound(head, z, y):
    """The lower bound of log p(y | z) of all rows, in nats."""
    return tf.reduce_sum(head.training_log_prob(tf.constant(z), y)) - len(z) * sum(head.losses)


def converge(head, z, y, tolerance=1e-12):
    """Maximizes the bound by L-BFGS over all trainable weights, and returns its value."""
    variables = [weight.value for weight in head.trainable_weights]
    sizes = [int(np.prod(variable.shape)) for variable in variables]

    @tf.function(autograph=False)
    def loss_and_gradient():
        with tf.GradientTape() as tape:
            loss = -bound(head, z, y)
        return loss, tf.concat([tf.reshape(part, [-1]) for part in tape.gradient(loss, variables)], 0)

    def at(point):
        for variable, part in zip(variables, np.split(point, np.cumsum(sizes)[:-1]), strict=True):
            variable.assign(part.reshape(variable.shape))
        loss, gradient = loss_and_gradient()
        return loss.numpy(), gradient.numpy()

    start = np.concatenate([variable.numpy().ravel() for variable in variables])
    found = scipy.optimize.minimize(at, start, jac=True, method="L-BFGS-B", options={"maxiter": 200, "ftol": tolerance})
    return -at(found.x)[0]


def with_known_noise(name, scales, **options):
    """A head of Normal responses whose scales are not trained."""
    head, y = case(name, **options)
    head.head.log_scale.assign(np.log(scales))
    head.head.log_scale.trainable = False
    return head, y


def covariance_of(posterior):
    """C of all coefficients, by numpy."""
    if posterior.structure == "full":
        return posterior.get("covariance")
    sides = np.kron(posterior.left.numpy(), posterior.right.numpy())
    return sides @ np.diag(posterior.variances.numpy().ravel()) @ sides.T


def log_evidence(y, scale, kernel_prior, bias_prior=0.2):
    """log p(y) of linear regression with known noise: a Gaussian of all rows."""
    prior = np.diag(1 / np.array([kernel_prior, kernel_prior, bias_prior]))
    return scipy.stats.multivariate_normal.logpdf(y, cov=scale**2 * np.eye(len(y)) + PHI @ prior @ PHI.T)


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_normal_is_the_conjugate_posterior(structure):
    head, y = with_known_noise("normal", 0.5, structure=structure, prior=0.7, bias_prior=0.2)
    start = float(bound(head, X, y))
    value = converge(head, X, y)
    covariance = np.linalg.inv(PHI.T @ PHI / 0.25 + np.diag([0.7, 0.7, 0.2]))
    np.testing.assert_allclose(head.coefficients()[:, 0], covariance @ PHI.T @ NUMBERS / 0.25, rtol=1e-4)
    np.testing.assert_allclose(covariance_of(head.posterior), covariance, rtol=1e-3)
    wanted = log_evidence(NUMBERS, 0.5, 0.7)
    assert start < wanted - 10 and value == pytest.approx(wanted, abs=1e-5)


def test_predictions_of_normal_are_in_closed_form():
    head, y = with_known_noise("normal of three", [0.5, 1.0, 2.0], structure="full", prior=0.7, bias_prior=0.2)
    assert converge(head, X, y) == pytest.approx(
        sum(log_evidence(column, s, 0.7) for column, s in zip(y.numpy().T, [0.5, 1.0, 2.0], strict=True)), abs=1e-4
    )
    p_y = head(X[:5])
    for entry, scale in enumerate([0.5, 1.0, 2.0]):
        covariance = np.linalg.inv(PHI.T @ PHI / scale**2 + np.diag([0.7, 0.7, 0.2]))
        mean = PHI[:5] @ covariance @ PHI.T @ y.numpy()[:, entry] / scale**2
        variance = scale**2 + np.einsum("nf,fg,ng->n", PHI[:5], covariance, PHI[:5])
        np.testing.assert_allclose(p_y.mean()[:, entry], mean, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(p_y.variance()[:, entry], variance, rtol=1e-3)
    assert isinstance(p_y, tfd.Independent) and isinstance(p_y.distribution, tfd.Normal)


def test_kronecker_bound_is_below_the_evidence():
    """Of three responses with different noise, whose posterior is no Kronecker product."""
    scales = [0.5, 1.0, 2.0]
    head, y = with_known_noise("normal of three", scales, structure="kronecker", prior=0.7, bias_prior=0.2)
    evidence = sum(log_evidence(column, scale, 0.7) for column, scale in zip(y.numpy().T, scales, strict=True))
    assert evidence - 1 < converge(head, X, y) < evidence


def test_evidence_chooses_the_prior():
    head, y = with_known_noise("normal", 0.5, bias_prior=0.2)
    converge(head, X, y)
    best = scipy.optimize.minimize_scalar(lambda log_prior: -log_evidence(NUMBERS, 0.5, np.exp(log_prior)))
    assert head.posterior.kernel_prior == pytest.approx(np.exp(best.x), rel=0.01)
    np.testing.assert_allclose(head.posterior.prior, np.exp([best.x, best.x, np.log(0.2)]), rtol=0.01)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "categorical"])
def test_many_rows_lead_to_laplace(name):
    rng, rows = np.random.default_rng(1), 1000
    x = rng.normal(size=(rows, 2))
    eta = x @ [0.8, -0.5] + 0.3
    y = {
        "bernoulli": (rng.uniform(size=rows) < 1 / (1 + np.exp(-eta))).astype(int),
        "poisson": rng.poisson(np.exp(eta)),
        "categorical": np.argmax(np.stack([eta, -eta, 0 * eta], 1) + rng.gumbel(size=(rows, 3)), 1),
    }[name]
    model = on_rows(CASES[name][0](dtype="float64"))
    laplace = bayes.fit(model, x, y, prior=0.5, bias_prior=0.5)
    head, _ = case(name, train_size=rows, prior=0.5, bias_prior=0.5)
    value = converge(head, x, head.prepare_labels(y), tolerance=1e-8)
    # Of classes, only differences of predictors matter.
    contrast = np.eye(1) if head.units == 1 else np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
    found, wanted = (one.predictor_factor(x[:20]).numpy() for one in (head.posterior, laplace))
    found, wanted = (np.linalg.norm(contrast @ factor, axis=-1) for factor in (found, wanted))
    np.testing.assert_allclose(found, wanted, rtol=0.02)
    shift = (head.posterior.linear_predictor(x[:20]) - laplace.linear_predictor(x[:20])) @ contrast.T
    assert np.abs(shift / wanted).max() < 0.1
    assert value == pytest.approx(laplace.log_evidence, abs=0.1)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 63, 64, 100])
def test_nodes_have_the_moments_of_a_normal(size):
    """Otherwise training finds a covariance that the nodes do not see."""
    points, weights = heads.posterior.standard_nodes(size)
    np.testing.assert_allclose(weights @ points, np.zeros(size), atol=1e-12)
    covariance = points.T @ (weights[:, np.newaxis] * points)
    np.testing.assert_allclose(covariance if size < 64 else np.diag(np.diag(covariance)), np.eye(size), atol=1e-9)


@pytest.mark.parametrize("structure", ["full", "kronecker"])
@pytest.mark.parametrize("name", CASES)
def test_expectation_is_that_of_draws(name, structure):
    head, y = case(name, structure, train_size=40)
    randomize(head.trainable_weights, scale=0.3)
    drawn = head.posterior.distribution().sample(20_000, seed=1)
    eta = head.shaped(tf.einsum("nf,sfu->snu", PHI[:4], drawn))
    values = head.distribution(eta).log_prob(y[:4]).numpy()
    error = values.std(0) / np.sqrt(20_000)
    quasi = 0.05 * values.std(0) if name in ("categorical", "mixture") else 0.0
    found = head.training_log_prob(tf.constant(X[:4]), y[:4])
    assert (np.abs(found - values.mean(0)) < 5 * error + quasi).all()


@pytest.mark.parametrize("prior", [0.6, "evidence"])
@pytest.mark.parametrize("name, structure", [("normal", "full"), ("categorical", "full"), ("categorical", "kronecker")])
def test_regularization_is_the_divergence(name, structure, prior):
    head, _ = case(name, structure, prior=prior)
    randomize(head.trainable_weights, scale=0.3)
    mean, covariance = head.coefficients().numpy().ravel(), covariance_of(head.posterior)
    precisions = np.repeat([head.posterior.kernel_prior] * 2 + [0.01], head.units)
    q = tfd.MultivariateNormalTriL(mean, np.linalg.cholesky(covariance))
    p = tfd.MultivariateNormalDiag(np.zeros(len(mean)), precisions**-0.5)
    assert float(sum(head.losses)) == pytest.approx(tfd.kl_divergence(q, p).numpy() / 60, rel=1e-9)
    if prior == "evidence":
        kernel = slice(0, 2 * head.units)
        assert precisions[0] == pytest.approx(
            2 * head.units / (np.sum(mean[kernel] ** 2) + np.trace(covariance[kernel, kernel]))
        )


def test_start_is_the_posterior_of_unit_information():
    head, _ = case("categorical", "full", train_size=50)
    np.testing.assert_allclose(covariance_of(head.posterior), np.eye(9) / 50, atol=1e-12)


@pytest.mark.parametrize("structure", ["full", "kronecker"])
@pytest.mark.parametrize("name", CASES)
def test_every_weight_gets_a_gradient(name, structure):
    head, y = case(name, structure)
    randomize(head.trainable_weights)
    with tf.GradientTape() as tape:
        loss = -bound(head, X, y)
    for weight, gradient in zip(
        head.trainable_weights, tape.gradient(loss, [w.value for w in head.trainable_weights]), strict=True
    ):
        assert gradient is not None and np.all(np.isfinite(gradient)) and np.any(gradient), weight.path
    trained = {weight.name for weight in head.trainable_weights}
    assert {"kernel", "bias", "log_stddev"} < trained and "facts" not in trained


def test_a_step_follows_the_bound():
    """The loss of `fit` is minus the bound of a row, with the weights of the rows, plus lambda log p(x)."""
    head, y = case("bernoulli")
    randomize(head.trainable_weights)
    model = on_rows(head)
    weights = RNG.uniform(0.5, 1.5, 60)
    nll = -head.training_log_prob(tf.constant(X), y)
    wanted = np.mean(weights * (nll - model.log_prob(X))) + head.posterior.divergence() / 60
    history = model.fit(X, CASES["bernoulli"][1], sample_weight=weights, batch_size=60, verbose=0).history
    assert history["loss"][0] == pytest.approx(float(wanted), rel=1e-6)
    assert history["nll"][0] == pytest.approx(np.mean(nll), rel=1e-6)


def test_training_fits_and_stays_fresh(recwarn):
    """With a head in float32 on a flow in float64."""
    x, y = X, (X[:, 0] > 0).astype(int)
    model = on_rows(heads.Variational(heads.Bernoulli(), 60))
    first = model.fit(x, y, epochs=10, verbose=0).history
    before = model.predict(x, verbose=0)
    second = model.fit(x, y, epochs=10, verbose=0, validation_data=(x, y)).history
    assert second["loss"][-1] < first["loss"][-1] < first["loss"][0]
    assert model.head.is_integrated and not [one for one in recwarn if "stale" in str(one.message)]
    p_y, _ = model.predict_distribution(x)
    np.testing.assert_allclose(model.predict(x, verbose=0), p_y.mean(), rtol=1e-5)
    assert np.abs(p_y.mean() - before).max() > 1e-3
    assert second["val_nll"][-1] == pytest.approx(-np.mean(p_y.log_prob(y)), rel=1e-5)


def with_weights(name, structure="auto"):
    """A model with random weights, whose posterior is wide, and its responses."""
    make, y = CASES[name]
    model = on_rows(heads.Variational(make(dtype="float64"), 5, structure=structure))
    model.head.adapt(y)
    randomize(model.trainable_weights, scale=0.3)
    return model, y


@pytest.mark.parametrize("name, structure", [("normal of three", "full"), ("categorical", "kronecker")])
def test_saved_and_loaded(name, structure, tmp_path):
    model, y = with_weights(name, structure)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in ((loaded.head, model.head), (loaded.head.head, model.head.head)):
        assert one.get_config() | {"head": None} == other.get_config() | {"head": None}
    assert len(loaded.weights) == len(model.weights)
    p_y, again = (one.predict_distribution(X)[0] for one in (model, loaded))
    value = model.head.prepare_labels(y)
    np.testing.assert_array_equal(again.log_prob(value), p_y.log_prob(value))
    anew = type(model).from_config(model.get_config())
    anew.set_weights(weights_of(model))
    for other in (loaded, anew):
        assert float(bound(other.head, X, value)) == float(bound(model.head, X, value))


@pytest.mark.integration
@pytest.mark.parametrize("name", ["normal", "categorical", "heteroscedastic"])
def test_xla_equals_graph_and_export(name, tmp_path):
    found = []
    for jit_compile in (False, True):
        model, y = with_weights(name)
        model.compile(keras.optimizers.Adam(1e-2), jit_compile=jit_compile)
        model.fit(X, y, epochs=3, batch_size=30, shuffle=False, verbose=0)
        found.append(weights_of(model))
    for graph, xla in zip(*found, strict=True):
        np.testing.assert_allclose(graph, xla, rtol=1e-5, atol=1e-8)
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(X), model.predict(X, verbose=0), rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_predictions_are_averages_over_draws(name):
    head, y = case(name, train_size=5)
    randomize(head.trainable_weights, scale=0.3)
    drawn = head.posterior.distribution().sample(20_000, seed=1)
    given = head.distribution(head.shaped(tf.einsum("nf,sfu->snu", PHI[:3], drawn)))
    p = np.mean(given.prob(y[:3]), 0)
    np.testing.assert_allclose(head(X[:3]).prob(y[:3]), p, rtol=0.15, atol=0.03 * p.max())


@pytest.mark.parametrize("name", ["normal", "normal of three", "categorical", "bernoulli", "heteroscedastic"])
def test_decomposition_adds_up(name):
    model, _ = with_weights(name)
    total, aleatoric, epistemic = uncertainty.decompose(model, X)
    np.testing.assert_allclose(aleatoric + epistemic, total, rtol=1e-9)
    assert (epistemic > 0).all()
    if name.startswith("normal"):
        np.testing.assert_allclose(total, model.predict_distribution(X)[0].variance(), rtol=1e-9)
        widths = np.linalg.norm(model.head.posterior.predictor_factor(X), axis=-1).reshape(epistemic.shape)
        stddev = model.head.head.response_stddev.numpy()
        np.testing.assert_allclose(epistemic, (stddev * widths) ** 2, rtol=1e-9)


def test_more_rows_leave_less_doubt():
    found = []
    for rows in (20, 600):
        head, _ = case("bernoulli", train_size=rows, prior=1.0)
        x = np.tile(X, (10, 1))[:rows]
        converge(head, x, head.prepare_labels(np.tile(CASES["bernoulli"][1], 10)[:rows]), tolerance=1e-8)
        found.append(uncertainty.decompose(on_rows(head), X).epistemic.mean())
    assert found[0] > 5 * found[1] > 0


def test_scores_queries_and_targets_take_it():
    model, y = with_weights("categorical")
    eta = model.head.posterior.linear_predictor(X)
    np.testing.assert_allclose(uncertainty.Energy().score(model, X), -np.logaddexp.reduce(eta, -1), rtol=1e-6)
    parts = uncertainty.decompose(model, X)
    np.testing.assert_allclose(uncertainty.Epistemic().score(model, X), parts.epistemic, rtol=1e-6)
    posterior = model.head.posterior
    chosen = active.BALD().choose(model, X, count=3)
    assert chosen[0] == parts.epistemic.argmax() and len(set(chosen)) == 3
    assert model.head.posterior is posterior
    log_prob = bayes.target_log_prob(model, X, y)(model.head.coefficients())
    precisions = posterior.prior[:, np.newaxis]
    wanted = np.sum(model.head.at_point(X).log_prob(y)) - 0.5 * np.sum(precisions * model.head.coefficients() ** 2)
    assert float(log_prob) == pytest.approx(wanted)
    ensemble = uncertainty.decompose([model, on_rows(heads.Categorical(3, dtype="float64"))], X)
    assert (ensemble.total > 0).all()
    model.fit(X, y, class_weight={0: 1.0, 1: 2.0, 2: 1.0}, verbose=0)


def test_a_trained_head_is_where_it_starts():
    inner = heads.Bernoulli(dtype="float64")
    inner.build((None, 2))
    inner.kernel.assign([[1.0], [-2.0]])
    head = heads.Variational(inner, 1e9)
    np.testing.assert_allclose(head(X).mean(), 1 / (1 + np.exp(-X @ [1.0, -2.0])), rtol=1e-6)
    np.testing.assert_array_equal(head.at_point(X).mean(), inner(X).mean())


def test_far_nodes_do_not_overflow():
    """In float32, with a predictor whose standard deviation is 10."""
    head = heads.Variational(heads.ExponentialFamily("Poisson"), 1.0)
    head.build((None, 1))
    with tf.GradientTape() as tape:
        value = head.training_log_prob(tf.constant([[10.0]]), tf.constant([3.0]))
    gradients = tape.gradient(value, [weight.value for weight in head.trainable_weights])
    assert np.isfinite(value).all() and all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("units, structure", [(3, "full"), (64, "kronecker"), (1000, "kronecker")])
def test_structure_by_size(units, structure):
    head = heads.Variational(heads.Categorical(units), 100)
    head.build((None, 3))
    assert head.posterior.structure == structure
    y = tf.zeros(2, tf.int32)
    assert np.isfinite(head.training_log_prob(tf.ones((2, 3)), y)).all() and head(tf.ones((2, 3))).batch_shape == (2,)
    assert head.posterior.distribution().event_shape == (4, units)
    wide = heads.Variational(heads.Bernoulli(10), 100)
    wide.build((None, 400))
    assert wide.posterior.structure == "kronecker"


with_posterior = heads.Bernoulli(posterior=heads.posterior.Posterior(3, 1))
BAD = {
    "no head": (lambda: heads.Variational("Normal", 60), "`head` is 'Normal'; wanted a head of"),
    "nested": (lambda: heads.Variational(heads.Variational(heads.Normal(), 60), 60), "`head` is .*; wanted a head of"),
    "uncertain weights": (
        lambda: heads.Variational(heads.Categorical(3, weight_stddev=0.5), 60),
        "`head` has weight_stddev = 0.5, an uncertainty of its own",
    ),
    "posterior": (lambda: heads.Variational(with_posterior, 60), "`head` has a posterior; wanted none"),
    "regularizer": (
        lambda: heads.Variational(heads.Normal(kernel_regularizer="l2"), 60),
        "`head` has a kernel_regularizer; wanted none, since `prior` takes its place",
    ),
    "no rows": (lambda: heads.Variational(heads.Normal(), 0), "`train_size` is 0; wanted a number above 0"),
    "rows as text": (lambda: heads.Variational(heads.Normal(), "60"), "`train_size` is '60'; wanted"),
    "negative prior": (lambda: heads.Variational(heads.Normal(), 60, prior=-1.0), "`prior` is -1.0; wanted a num"),
    "unknown prior": (lambda: heads.Variational(heads.Normal(), 60, prior="flat"), "`prior` is 'flat'; wanted a prec"),
    "array of priors": (lambda: heads.Variational(heads.Normal(), 60, prior=np.ones(2)), "`prior` is array"),
    "flat bias": (lambda: heads.Variational(heads.Normal(), 60, bias_prior=0), "`bias_prior` is 0; wanted"),
    "structure": (
        lambda: heads.Variational(heads.Normal(), 60, structure="diagonal"),
        "`structure` is 'diagonal'; wanted one of",
    ),
    "too many predictors": (
        lambda: heads.Variational(heads.Categorical(64), 60, structure="full"),
        "`structure` is 'full', but the head has 64 linear predictors; wanted fewer than 64",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=f"Variational: {message}"):
        make()


def test_what_it_is_refused_for():
    model, y = with_weights("bernoulli")
    for function in (bayes.fit, bayes.update):
        with pytest.raises(ValueError, match="The head is Variational, whose posterior `fit` of the model trains"):
            function(model, X, y)
    with pytest.raises(ValueError, match="calibrate: the head is Variational"):
        uncertainty.calibrate(model, X, y)
    with pytest.raises(ValueError, match="Variational: `posterior` is None; wanted a `Posterior`"):
        model.head.posterior = None
    with pytest.raises(ValueError, match="y has values from 0 to 2; wanted labels 0 and 1"):
        model.fit(X, 2 * y, verbose=0)
