"""`CircularSplineFlow`, its transformer and its conditioners: densities of angles without a seam."""

import functools

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal, randomize

import tfp_hybrid as hy
from tfp_hybrid.bijectors import CircularSplineFlow, Elementwise, FusedChain, NeuralSplineFlow
from tfp_hybrid.bijectors.transformers import CircularSpline

tfb, tfd = tfp.bijectors, tfp.distributions
SEAM = np.pi - 1e-10


def density_of(size, scale=0.2, dtype="float64", **options):
    """p(x) of a flow with random weights."""
    flow = CircularSplineFlow(size, **dict(steps=1, bins=4, hidden_units=8, dtype=dtype) | options)
    randomize(flow.keras_weights(), scale=scale)
    return hy.flow_distribution(flow)


def with_slopes(p_x, x):
    """log p(x), z and the derivatives of a combination of its entries."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = p_x.bijector.inverse(tf.identity(x))
        combined = tf.linalg.matvec(z, np.arange(1.0, z.shape[-1] + 1))
    return p_x.log_prob(x), z, tape.gradient(combined, x)


def test_it_starts_as_the_identity_of_angles():
    x = normal(50, 2, dtype="float64") * 4
    z, log_det = CircularSplineFlow(2, dtype="float64").inverse_and_log_det(x)
    np.testing.assert_allclose(z, np.angle(np.exp(1j * x.numpy())), rtol=0, atol=1e-12)
    np.testing.assert_allclose(log_det, 0, atol=1e-12)


def test_the_inner_spline_is_that_of_tfp():
    transformer = CircularSpline(bins=5)
    raw = normal(16, dtype="float64").numpy()
    raw[[10, 15]] = 0, 0.7  # the slope at the ends is 1, and the phase 0.7
    x = np.linspace(-3, 3, 50)[:, np.newaxis]
    z, log_det = transformer.inverse(tf.constant(x), tf.broadcast_to(raw, (50, 16)), 1)
    least = 1e-2
    widths, heights = (
        2 * np.pi * (least / 5 + (1 - least) * np.exp(part) / np.exp(part).sum()) for part in (raw[:5], raw[5:10])
    )
    slopes = least + (1 - least) * np.logaddexp(0, raw[11:15] + np.log(np.e - 1))
    stock = tfb.RationalQuadraticSpline(widths, heights, slopes, range_min=-np.pi)
    rotated = np.angle(np.exp(1j * (x - 0.7)))
    np.testing.assert_allclose(z, stock.forward(rotated), atol=1e-10)
    np.testing.assert_allclose(log_det, stock.forward_log_det_jacobian(rotated, 1), atol=1e-10)


@pytest.mark.parametrize("size", [1, 2])
def test_value_and_slope_are_continuous_at_the_seam(size):
    p_x, rows = density_of(size), normal(20, size, seed=4, dtype="float64").numpy()
    for entry in range(size):
        sides = []
        for end in (SEAM, -SEAM):
            rows[:, entry] = end
            sides.append(with_slopes(p_x, rows))
        (left, z_left, slopes_left), (right, z_right, slopes_right) = sides
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-8)
        np.testing.assert_allclose(np.exp(1j * z_left.numpy()), np.exp(1j * z_right.numpy()), rtol=0, atol=1e-8)
        np.testing.assert_allclose(slopes_left, slopes_right, rtol=0, atol=1e-7)
        assert np.abs(slopes_left[:, entry] - (entry + 1)).max() > 0.05
        outside = tf.constant(rows - 2 * np.pi)  # p(x) is periodic
        np.testing.assert_allclose(p_x.log_prob(outside), right, rtol=0, atol=1e-8)


def test_the_ends_of_the_spline_are_no_seam():
    """They are where the phase puts them: the slope there is free, and the same on both sides."""
    flow = Elementwise((1,), CircularSpline(bins=4), "float64")
    randomize(flow.keras_weights(), scale=1.0)
    ends = flow.raw[-1] + np.array([[SEAM], [-SEAM]])
    _, z, slopes = with_slopes(hy.flow_distribution(flow), ends)
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-7)
    np.testing.assert_allclose(np.abs(z), np.pi, atol=1e-7)
    expected = 1e-2 + 0.99 * np.logaddexp(0, flow.raw[8].numpy() + np.log(np.e - 1))
    np.testing.assert_allclose(slopes[0, 0], expected, rtol=1e-6)
    assert abs(expected - 1) > 0.1


@pytest.mark.parametrize("size, points, scale, tolerance", [(1, 20_000, 1.0, 1e-6), (2, 300, 0.2, 1e-4)])
def test_it_integrates_to_one_on_the_torus(size, points, scale, tolerance):
    edge = np.linspace(-np.pi, np.pi, points, endpoint=False)
    grid = np.stack(np.meshgrid(*size * [edge], indexing="ij"), -1).reshape(-1, size)
    density = np.exp(density_of(size, scale).log_prob(grid))
    assert density.sum() * (2 * np.pi / points) ** size == pytest.approx(1, abs=tolerance)
    assert density.max() > 2 * density.min()


def test_draws_follow_the_density():
    p_x = density_of(1, scale=1.0)
    edge = np.linspace(-np.pi, np.pi, 5001)
    density = np.exp(p_x.log_prob(edge[:, np.newaxis])).astype("float64")
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(edge))])
    x = p_x.sample(5000, seed=(0, 1)).numpy()[:, 0]
    assert (np.abs(x) <= np.pi).all()
    assert scipy.stats.kstest(x, lambda at: np.interp(at, edge, cdf)).pvalue > 0.01
    assert scipy.stats.kstest(x, scipy.stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue < 1e-6


def test_float32_angles_at_the_seam_round_trip():
    p_x = density_of(2, dtype="float32")
    at = np.array([-np.pi, np.nextafter(np.float32(-np.pi), 0), np.pi, np.nextafter(np.float32(np.pi), 0), 0, 9], "f")
    x = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    back = p_x.bijector.forward(tf.identity(p_x.bijector.inverse(x)))
    np.testing.assert_allclose(np.exp(1j * back.numpy()), np.exp(1j * x), atol=2e-5)
    values = p_x.log_prob(x).numpy().reshape(6, 6)
    np.testing.assert_allclose(values[:, :4] - values[:, :1], 0, atol=1e-4)
    np.testing.assert_allclose(values[:4] - values[:1], 0, atol=1e-4)


def test_the_latent_is_uniform_unless_given():
    hours = FusedChain([tfb.Scale(np.float32(24 / (2 * np.pi))), CircularSplineFlow(2)], (2,))
    for flow in (CircularSplineFlow(2), hours):
        latent = hy.flow_distribution(flow).distribution
        np.testing.assert_allclose(latent.log_prob(normal(5, 2)), -2 * np.log(2 * np.pi), rtol=1e-6)
    np.testing.assert_allclose(hy.flow_distribution(hours).log_prob(normal(5, 2) * 9), -2 * np.log(24), rtol=1e-5)
    peaked = tfd.Independent(tfd.VonMises(tf.zeros(2), 5.0), 1)
    p_x = hy.flow_distribution(CircularSplineFlow(2), peaked)
    x = normal(5, 2)
    np.testing.assert_allclose(p_x.log_prob(x), scipy.stats.vonmises(5.0).logpdf(x).sum(-1), rtol=1e-5)


def test_conditioners_see_no_seam():
    mlp = functools.partial(hy.networks.MLP, hidden_units=(5,), dtype="float64")
    network = hy.networks.OfAngles((2,), 3, mlp, "float64")
    x = normal(4, 2, dtype="float64")
    np.testing.assert_array_equal(network(x), 0)
    randomize(network.weights, scale=1.0)
    assert network.output_shape == (None, 3) and np.abs(network(x)).max() > 0.1
    np.testing.assert_allclose(network(x + 2 * np.pi), network(x), atol=1e-12)
    np.testing.assert_allclose(hy.networks.CosSin(dtype="float64")(x), np.concatenate([np.cos(x), np.sin(x)], -1))
    images = hy.networks.OfAngles((4, 4, 1), 2, hy.networks.ConvNet)
    assert images(tf.zeros((2, 4, 4, 1))).shape == (2, 4, 4, 2)


def wrapped_rows(rows, seed):
    """Two peaks, one of them at the seam; the second angle follows the first one."""
    rng = np.random.default_rng(seed)
    first = np.where(rng.random(rows) < 0.6, rng.vonmises(np.pi, 6.0, rows), rng.vonmises(0.3, 10.0, rows))
    second = first + rng.vonmises(np.pi / 2, 8.0, rows)
    return np.angle(np.exp(1j * np.stack([first, second], 1))).astype("float32")


def true_log_prob(x):
    peaks = np.stack(
        [scipy.stats.vonmises(6.0, np.pi).logpdf(x[:, 0]), scipy.stats.vonmises(10.0, 0.3).logpdf(x[:, 0])]
    )
    first = np.logaddexp(np.log(0.6) + peaks[0], np.log(0.4) + peaks[1])
    return first + scipy.stats.vonmises(8.0, np.pi / 2).logpdf(x[:, 1] - x[:, 0])


def fitted(flow, x, epochs=30):
    density = hy.DensityModel(hy.flow_distribution(flow))
    density.compile(keras.optimizers.Adam(5e-3))
    density.fit(x, batch_size=200, epochs=epochs, verbose=0)
    return density


@pytest.mark.integration
def test_it_fits_angles_better_than_a_spline_flow_of_numbers(tmp_path):
    x, held_out = wrapped_rows(2000, 1), wrapped_rows(4000, 2)
    # As many couplings and, within a percent, as many weights.
    circular, plain = (
        fitted(flow(2, steps=steps, hidden_units=16), x)
        for flow, steps in ((CircularSplineFlow, 1), (NeuralSplineFlow, 2))
    )
    assert circular.count_params() == pytest.approx(plain.count_params(), rel=0.01)
    best = true_log_prob(held_out).mean()
    lost, lost_by_plain = (best - model.log_prob(held_out).mean() for model in (circular, plain))
    assert 0 < lost < 0.1 and lost_by_plain > lost + 0.05, (lost, lost_by_plain)
    circular.save(tmp_path / "angles.keras")
    loaded = keras.models.load_model(tmp_path / "angles.keras")
    np.testing.assert_allclose(loaded.log_prob(held_out), circular.log_prob(held_out), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(loaded.sample(5, seed=0), circular.sample(5, seed=0))
    draws = circular.sample(4000, seed=0).numpy()
    np.testing.assert_allclose(np.exp(1j * draws).mean(0), np.exp(1j * held_out).mean(0), atol=0.08)
    difference = np.exp(1j * (draws[:, 1] - draws[:, 0])).mean()
    assert abs(np.angle(difference) - np.pi / 2) < 0.05 and abs(difference) > 0.85


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CircularSplineFlow((2, 2)), r"`event_shape` is \(2, 2\); wanted \(d,\)"),
        (lambda: CircularSplineFlow(2, steps=0), "`steps` is 0; wanted"),
        (lambda: CircularSplineFlow(2, bins=1), "`bins` is 1; wanted"),
        (lambda: CircularSplineFlow(2, conditioner=3), "`conditioner` is 3; wanted a function"),
        (lambda: Elementwise((2,), "spline"), "`transformer` is 'spline'; wanted"),
        (lambda: Elementwise((), CircularSpline()), r"`event_shape` is \(\); wanted at least one axis"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
