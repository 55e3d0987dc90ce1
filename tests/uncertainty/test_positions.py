"""`log_prob_map`, `LeastLikelyPosition` and their picture."""

import functools

import keras
import numpy as np
import pytest
import scipy.stats
from helpers import randomize

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.uncertainty import pictures


def features(rows=300, seed=0):
    """Maps of correlated vectors, and the covariance."""
    mix = np.random.default_rng(7).normal(size=(3, 3))
    return np.random.default_rng(seed).normal(size=(rows, 4, 5, 3)).astype("float32") @ mix.astype("float32")


@pytest.fixture(scope="module")
def gaussian():
    flow = hy.bijectors.Positionwise((4, 5, 3), hy.bijectors.Whitening((3,)))
    model = hy.DensityModel(hy.flow_distribution(flow))
    model.adapt(features())
    return model


def test_map_is_the_density_of_each_vector(gaussian):
    vectors = features().reshape(-1, 3)
    wanted = scipy.stats.multivariate_normal(vectors.mean(0), np.cov(vectors.T, bias=True))
    x = features(6, seed=1)
    maps = uncertainty.log_prob_map(gaussian, x, batch_size=4)
    np.testing.assert_allclose(maps, wanted.logpdf(x), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(maps.sum((1, 2)), gaussian.log_prob(x), rtol=1e-5)
    score = uncertainty.LeastLikelyPosition().score(gaussian, x)
    np.testing.assert_allclose(score, -maps.min((1, 2)), rtol=1e-6)


def test_a_defect_is_found_where_it_is(gaussian):
    x = features(40, seed=2)
    x[20:, 1, 3] = [9.0, -9.0, 9.0]
    maps = uncertainty.log_prob_map(gaussian, x)
    assert (maps[20:].reshape(20, -1).argmin(1) == 1 * 5 + 3).all()
    scores = uncertainty.LeastLikelyPosition().score(gaussian, x)
    assert uncertainty.detection.auroc(scores[:20], scores[20:]) == 1.0


def test_raw_inputs_go_through_the_encoder():
    encoder = keras.Sequential([keras.Input((8, 10, 1)), keras.layers.Conv2D(6, 2, 2)])
    conditioner = functools.partial(hy.networks.PositionMLP, positions=(4, 5), hidden_units=(8,))
    flow = hy.bijectors.Positionwise((4, 5, 6), hy.bijectors.RealNVP((6,), couplings=2, conditioner=conditioner))
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2), encoder=encoder)
    randomize(model.trainable_weights)
    x = np.random.default_rng(0).normal(size=(3, 8, 10, 1)).astype("float32")
    maps = uncertainty.log_prob_map(model, x)
    assert maps.shape == (3, 4, 5)
    np.testing.assert_allclose(maps.sum((1, 2)), model.log_prob(x), rtol=1e-4)
    rejector = uncertainty.Rejector(model, uncertainty.LeastLikelyPosition()).fit_threshold(x, quantile=0.5)
    assert set(rejector.predict(x)["abstain"]) == {False, True}


def test_other_flows_are_refused():
    model = hy.DensityModel(hy.flow_distribution(hy.bijectors.RealNVP((3,))))
    with pytest.raises(ValueError, match="wanted a `bijectors.Positionwise`"):
        uncertainty.log_prob_map(model, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="wanted a `bijectors.Positionwise`"):
        uncertainty.LeastLikelyPosition().score(model, np.zeros((2, 3)))


def test_picture_lays_the_map_over_the_image():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 1))
    maps = np.arange(60).reshape(3, 4, 5).astype(float)
    figure = pictures.heat_maps(images, maps, levels=256, limits=np.array([0, 40]), names=["a", "b", "c"])
    above, below = figure.axes[:3], figure.axes[3:6]
    assert [axes.get_title() for axes in above] == ["a", "b", "c"]
    for axes, heat in zip(below, maps, strict=True):
        image, drawn = axes.images
        np.testing.assert_array_equal(drawn.get_array(), np.minimum(heat, 40))
        assert drawn.get_clim() == (0, 40) and drawn.get_extent() == image.get_extent()
    for wrong in (maps[:2], maps[0]):
        with pytest.raises(ValueError, match="wanted a map"):
            pictures.heat_maps(images, wrong, levels=256)
    for limits in ((2, -2), 2, (2,)):
        with pytest.raises(ValueError, match="limits is .*; wanted a pair"):
            pictures.heat_maps(images, maps, levels=256, limits=limits)


def test_overflow_is_the_hottest(gaussian):
    x = features(2)
    x[1, 2, 2] = 3e38
    maps = uncertainty.log_prob_map(gaussian, x)
    assert maps[1, 2, 2] == -np.inf and np.isfinite(maps[0]).all()
    figure = pictures.heat_maps(np.zeros((2, 8, 10, 1)), -maps, levels=256)
    assert figure.axes[3].images[1].get_array()[2, 2] == -maps[np.isfinite(maps)].min()
