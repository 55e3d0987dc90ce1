"""A posterior row by row, against `bayes.update` and against the sums of all rows."""

import keras
import numpy as np
import pytest
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import bayes, heads
from tfp_hybrid.bayes.online import Online

tfb, tfd = tfp.bijectors, tfp.distributions
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
NUMBERS = np.where(RNG.uniform(size=(50, 2)) < 0.6, X[:, :2] + 0.3 * RNG.normal(size=(50, 2)), np.nan)
LABELS = np.where(np.isnan(NUMBERS), np.nan, NUMBERS > 0)
MAKE = {
    "normal": (lambda: heads.PartlyObserved(heads.Normal((2,), dtype="float64")), NUMBERS),
    "bernoulli": (lambda: heads.PartlyObserved(heads.Bernoulli((2,), dtype="float64")), LABELS),
}


def fitted(name, rows=30, sample_weight=None, **options):
    make, y = MAKE[name]
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(3)), tfb.Identity())
    model = hy.HybridModel(p_x, make())
    bayes.fit(model, X[:rows], y[:rows], sample_weight, prior=0.5, structure="blocks", **options)
    return model, y


@pytest.mark.parametrize("name", MAKE)
def test_it_is_an_update(name):
    model, y = fitted(name)
    online = Online(model.head)
    online.add(X[30:33], y[30:33])
    online.add(X[33:34], y[33:34])
    for rows in (slice(30, 33), slice(33, 34)):
        bayes.update(model, X[rows], y[rows])
    found, wanted = online.posterior(), model.head.posterior
    for part in ("mean", "information", "covariance"):
        np.testing.assert_allclose(found.get(part), wanted.get(part), rtol=1e-7, atol=1e-12)
    assert (found.structure, found.rows, found.kernel_prior) == ("blocks", 34, 0.5)
    model.head.posterior = found
    mean, stddev = online.predictors(X[:4])
    np.testing.assert_allclose(found.linear_predictor(X[:4]), mean, rtol=1e-9)
    factor = found.predictor_factor(X[:4]).numpy()
    np.testing.assert_allclose(np.diagonal(factor, axis1=1, axis2=2), stddev, rtol=1e-9)


def test_rows_of_linear_regression_give_what_a_fit_of_all_gives():
    model, y = fitted("normal")
    online = Online(model.head)
    for row in range(30, 50):
        online.add(X[row : row + 1], y[row : row + 1])
    at_once, _ = fitted("normal", rows=50)
    for part in ("mean", "information", "covariance"):
        np.testing.assert_allclose(online.posterior().get(part), at_once.head.posterior.get(part), rtol=1e-8)


@pytest.mark.parametrize("batch", [1, 5])
def test_what_is_forgotten_is_what_weights_take_away(batch):
    """Rows one by one, or five at a time, are a fit with a weight of each row by its age."""
    weights = 0.9 ** np.arange(49.0, -1, -1)
    model, y = fitted("normal", sample_weight=weights[20:])
    online = Online(model.head, forgetting=0.9)
    for start in range(30, 50, batch):
        online.add(X[start : start + batch], y[start : start + batch])
    at_once, _ = fitted("normal", rows=50, sample_weight=weights)
    for part in ("mean", "information", "covariance"):
        np.testing.assert_allclose(online.posterior().get(part), at_once.head.posterior.get(part), 1e-6, 1e-7)
    assert online.posterior().rows == pytest.approx(weights.sum())


def test_blocks_are_the_blocks_of_the_full_matrix(tmp_path):
    model, y = fitted("bernoulli")
    blocks, here = model.head.posterior, model.predict_distribution(X[:5])[0].mean()
    full = bayes.fit(model, X[:30], y[:30], prior=0.5, structure="full")
    covariance = full.get("covariance").reshape(4, 2, 4, 2)
    for unit in range(2):
        np.testing.assert_allclose(blocks.get("covariance")[unit], covariance[:, unit, :, unit], rtol=1e-6)
    assert blocks.log_evidence == pytest.approx(full.log_evidence, rel=1e-9)
    assert blocks.distribution().event_shape == (4, 2)
    values = RNG.normal(size=(3, 4, 2))
    np.testing.assert_allclose(blocks.distribution().log_prob(values), full.distribution().log_prob(values), rtol=1e-6)
    model.head.posterior = blocks
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict_distribution(X[:5])[0].mean(), here, rtol=1e-12)


def test_blocks_of_predictors_that_depend_on_one_another_are_refused():
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(np.zeros(3)), tfb.Identity())
    model = hy.HybridModel(p_x, heads.Categorical(2))
    with pytest.raises(ValueError, match=r"structure is 'blocks', but .*Categorical head depend on one another"):
        bayes.fit(model, X, (X[:, 0] > 0).astype(int), structure="blocks")
