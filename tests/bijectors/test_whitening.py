"""`Whitening` and `PrincipalComponents`, against numpy's covariance and Gaussians in closed form."""

import keras
import numpy as np
import pytest
import scipy.stats
import sklearn.covariance
import tensorflow as tf

import tfp_hybrid as hy
from tfp_hybrid.bijectors import ActNorm, FactorOut, PrincipalComponents, RealNVP, Whitening

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(4, 4)) * [1.0, 5.0, 0.2, 1.0]
ROWS = RNG.normal(size=(500, 4)) @ MIX + [0.0, 100.0, -3.0, 7.0]
GAUSSIAN = scipy.stats.multivariate_normal(ROWS.mean(0), np.cov(ROWS.T, bias=True))


@pytest.mark.parametrize("shape", [(4,), (2, 5, 4)])
def test_channels_become_uncorrelated(shape):
    x = np.resize(ROWS, (50, *shape))
    bijector = Whitening(shape, dtype="float64")
    assert not bijector.is_adapted()
    z = bijector.adapt(x).numpy().reshape(-1, 4)
    assert bijector.is_adapted()
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(4), atol=1e-8)
    scales = np.exp(bijector.log_scale)
    assert (np.diff(scales) < 0).all()
    np.testing.assert_allclose(scales**2, np.linalg.eigvalsh(np.cov(x.reshape(-1, 4).T, bias=True))[::-1], rtol=1e-8)


def test_density_is_the_fitted_gaussian():
    p_x = hy.flow_distribution(Whitening((4,), dtype="float64"))
    p_x.bijector.adapt(ROWS)
    np.testing.assert_allclose(p_x.log_prob(ROWS[:9]), GAUSSIAN.logpdf(ROWS[:9]), rtol=1e-8)


@pytest.mark.parametrize("components", [1, 2, 3, 4])
def test_the_complement_counts(components):
    """With a flow that is the identity, any number of components gives the density of the same Gaussian."""
    flow = PrincipalComponents(4, ActNorm((components,), "float64"), dtype="float64")
    flow.adapt(ROWS)
    np.testing.assert_allclose(hy.flow_distribution(flow).log_prob(ROWS[:9]), GAUSSIAN.logpdf(ROWS[:9]), rtol=1e-6)
    assert flow.level_sizes() == ([4] if components == 4 else [4 - components, components])


def test_large_mean_costs_no_digits():
    x = (RNG.normal(size=(2000, 3)) + 1000.0).astype("float32")
    bijector = Whitening((3,))
    z = bijector.adapt(x).numpy()
    wanted = Whitening((3,), dtype="float64").adapt(x.astype("float64"))
    np.testing.assert_allclose(z, wanted, atol=2e-3)


def test_directions_without_variance_are_not_blown_up():
    x = np.zeros((50, 3), "float32")
    x[:, 0] = RNG.normal(size=50)
    bijector = Whitening((3,), min_scale=0.01)
    assert np.abs(bijector.adapt(x)).max() < 5
    np.testing.assert_allclose(np.exp(bijector.log_scale), x[:, 0].std() * np.array([1, 0.01, 0.01]), rtol=1e-4)
    np.testing.assert_allclose(Whitening((3,)).adapt(np.ones((9, 3), "float32")), np.zeros((9, 3)))


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="x has 4 rows for the covariance of 4 channels; wanted more rows"):
        Whitening((4,)).adapt(ROWS[:4])


@pytest.mark.parametrize("rows", [3, 10, 400])
def test_shrunk_covariance_is_scikit_learns(rows):
    x = RNG.normal(size=(rows, 16)) @ RNG.normal(size=(16, 16)) + 3.0
    p_x = hy.flow_distribution(Whitening((16,), dtype="float64", shrinkage=True))
    p_x.bijector.adapt(x)
    fitted = sklearn.covariance.LedoitWolf().fit(x)
    wanted = scipy.stats.multivariate_normal(fitted.location_, fitted.covariance_)
    new = RNG.normal(size=(9, 16))
    np.testing.assert_allclose(p_x.log_prob(new), wanted.logpdf(new), rtol=1e-6)
    with pytest.raises(ValueError, match="x has 1 row; wanted at least two"):
        p_x.bijector.adapt(x[:1])


def test_more_rows_are_wanted_for_more_channels():
    assert Whitening((2,)).rows_to_adapt == 1024
    assert hy.flow_distribution(PrincipalComponents(64, RealNVP((8,)))).bijector.rows_to_adapt == 2048


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Whitening((3,), min_scale=0.0), "`min_scale` is 0.0"),
        (lambda: Whitening((3,), shrinkage=0.5), "`shrinkage` is 0.5; wanted True or False"),
        (lambda: PrincipalComponents((2, 2, 3), RealNVP((2,))), r"`event_shape` is \(2, 2, 3\)"),
        (lambda: PrincipalComponents(3, RealNVP((4,))), r"wanted .* event shape \(k,\), k <= 3"),
        (lambda: FactorOut(RealNVP((4,)), (4,), kept=4), r"`kept` is 4; wanted 1 \.\. 3"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_model_adapts_on_enough_rows_and_is_saved(tmp_path):
    x = np.random.default_rng(1).normal(size=(3000, 64)).astype("float32")
    x[::2] += 5.0
    model = hy.DensityModel(hy.flow_distribution(PrincipalComponents(64, RealNVP((8,), couplings=2))))
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(x, verbose=0)
    mean = model.flow.bijectors[0].mean.numpy()
    np.testing.assert_allclose(mean, x.mean(0), atol=1e-5)  # of all rows: 1,024 are too few
    before = model.log_prob(x[:50])
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras").log_prob(x[:50]), before, rtol=1e-5)
    assert np.isfinite(tf.reduce_sum(model.sample(3, seed=0)))
