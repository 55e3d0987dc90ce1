"""The conditional spline flow of y, against numerical integration, TFP's Normal, and what training makes of it."""

import keras
import numpy as np
import pytest
import scipy.integrate
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import heads
from tfp_hybrid.heads.quantiles import quantile
from tfp_hybrid.uncertainty import calibrate

tfd = tfp.distributions
RNG = np.random.default_rng(0)


def built(scale=1.0, **options):
    head = heads.Flow(**{"bins": 5, "bound": 3.0, "dtype": "float64"} | options)
    head.build((None, 2))
    head.built = True
    head.kernel.assign(scale * RNG.normal(size=head.kernel.shape))
    head.adapt(np.array([1.0, 7.0, 4.0, 4.0]))
    return head


Z = RNG.normal(size=(3, 2))


def test_it_starts_as_a_normal():
    head = built(0.0)
    p_y = head(Z)
    normal = tfd.Normal(*(one.numpy().astype(float) for one in (p_y.mean(), p_y.stddev())))
    y = np.linspace(-20, 20, 50)[:, np.newaxis]
    np.testing.assert_allclose(p_y.log_prob(y), normal.log_prob(y), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("widening", [1.0, 1.7])
def test_density_and_moments_by_integration(widening):
    head = built()
    before = head(Z).mean().numpy()
    head.widen(widening)
    p_y = head(Z)
    y = np.linspace(-60, 70, 200_001)
    density = np.exp(p_y.log_prob(y[:, np.newaxis]).numpy())
    mean = scipy.integrate.trapezoid(density * y[:, np.newaxis], y, axis=0)
    np.testing.assert_allclose(scipy.integrate.trapezoid(density, y, axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(p_y.mean(), mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(p_y.mean(), before, rtol=1e-9)
    variance = scipy.integrate.trapezoid(density * (y[:, np.newaxis] - mean) ** 2, y, axis=0)
    np.testing.assert_allclose(p_y.variance(), variance, rtol=1e-3)
    np.testing.assert_allclose(p_y.stddev() ** 2, p_y.variance(), rtol=1e-9)
    for q in (0.05, 0.5, 0.9):
        place = [y[np.searchsorted(np.cumsum(one) * (y[1] - y[0]), q)] for one in density.T]
        np.testing.assert_allclose(quantile(p_y, q), place, atol=2e-2)
        np.testing.assert_allclose(p_y.cdf(quantile(p_y, q)), q, rtol=1e-6)


def test_rows_can_be_taken_as_of_tfps_distributions(caplog):
    p_y = built()(Z)
    np.testing.assert_allclose(p_y[1:].log_prob(0.5), p_y.log_prob(0.5)[1:])
    np.testing.assert_allclose(p_y.copy().mean(), p_y.mean())
    assert p_y.sample(2, seed=(0, 1)).shape == (2, 3) and p_y[0].batch_shape == ()
    assert not caplog.records  # TFP warns where its parameters are not those of the class


def test_widening_stretches_about_the_mean():
    head = built()
    before = head(Z).stddev()
    head.widen(2.0)
    np.testing.assert_allclose(head(Z).stddev(), 2 * before, rtol=1e-9)


def test_every_weight_gets_a_gradient():
    head = built()
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(head(Z).log_prob(np.array([1.0, 4.0, 9.0])))
    for gradient in tape.gradient(loss, [one.value for one in head.trainable_weights]):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


@pytest.mark.integration
def test_two_modes_are_learned_and_saved(tmp_path):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1500, 2)).astype("float32")
    y = (x[:, 0] + np.where(rng.random(1500) < 0.5, -3, 3) + 0.3 * rng.normal(size=1500)).astype("float32")
    found = {}
    for head in (heads.Normal(), heads.Flow(bound=3.0)):
        p_x = hy.flow_distribution(hy.bijectors.ActNorm((2,)))
        model = hy.HybridModel(p_x, head, generative_weight=0.0)
        model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-2, 240)), jit_compile=True)
        model.fit(x[:1000], y[:1000], epochs=60, batch_size=250, verbose=0)
        found[type(head).__name__] = model.evaluate(x[1000:], y[1000:], verbose=0, return_dict=True)["nll"]
    noise = 0.5 * np.log(2 * np.pi * np.e * 0.09) + np.log(2)
    assert found["Flow"] < noise + 0.2 < 2 < found["Normal"]
    low, high = model.predict_interval(x[1000:], 0.9)
    assert 0.84 < np.mean((y[1000:] >= low) & (y[1000:] <= high)) < 0.96
    calibrate(model, x[1000:], y[1000:])
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))


def test_what_is_refused():
    for arguments, message in (
        ({"bins": 1}, "Flow: `bins` is 1"),
        ({"bound": 0}, "Flow: `bound` is 0"),
        ({"event_shape": (2,)}, "`event_shape` is \\(2,\\); wanted none"),
    ):
        with pytest.raises(ValueError, match=message):
            heads.Flow(**arguments)
