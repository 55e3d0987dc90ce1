import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from helpers import normal, randomize

import tfp_hybrid as hy
from tfp_hybrid.bijectors import ActNorm, RealNVP, Steps


@pytest.mark.parametrize("shape", [(3,), (4, 2, 3)])
def test_adapt_standardizes_each_channel(shape):
    x = normal(50, *shape) * [0.1, 3.0, 20.0] + [5.0, -4.0, 100.0]
    bijector = ActNorm(shape)
    assert not bijector.is_adapted()
    z = bijector.adapt(x).numpy().reshape(-1, 3)
    assert bijector.is_adapted()
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(z.std(0), 1, atol=1e-4)
    np.testing.assert_allclose(bijector.inverse(tf.identity(x)).numpy().reshape(-1, 3), z, atol=1e-6)


def test_constant_feature_keeps_its_scale():
    bijector = ActNorm((2,))
    z = bijector.adapt(tf.stack([normal(20), tf.fill(20, 7.0)], 1)).numpy()
    np.testing.assert_array_equal(z[:, 1], 0)
    assert bijector.log_scale.numpy()[1] == 0


def test_inverse_formula():
    bijector = ActNorm((2,))
    bijector.loc.assign([1.0, 2.0])
    bijector.log_scale.assign(np.log([2.0, 4.0]))
    z, log_det = bijector.inverse_and_log_det([[3.0, 6.0]])
    np.testing.assert_allclose(z, [[1.0, 1.0]])
    np.testing.assert_allclose(log_det, [-np.log(8)], rtol=1e-6)


def test_features_of_a_tiny_scale_are_standardized_too():
    x = 1e-7 * np.random.default_rng(0).normal(size=(500, 2)).astype("float32")
    z = ActNorm((2,)).adapt(x)
    np.testing.assert_allclose(np.std(z, axis=0), 1.0, rtol=1e-3)


CONSTANTS = np.arange(1, 507) / 10  # 0.1, 1.1, 7.7, ...: the float32 mean of 1,000 of them is often another number


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_constant_counts_as_varying(dtype):
    x = np.tile(CONSTANTS, (1000, 1)).astype(dtype)
    bijector = ActNorm((506,), dtype)
    z = bijector.adapt(x).numpy()
    np.testing.assert_array_equal(bijector.log_scale, np.zeros(506))
    np.testing.assert_array_equal(bijector.loc, x[0])
    np.testing.assert_array_equal(z, 0 * z)


def test_rounded_constants_are_near_the_mean():
    """Constants whose float32 values differ in the last digit: no input is far out for that."""
    rng = np.random.default_rng(0)
    x = np.array([0.1, 7.7, 1e12]) * (1 + 1e-7 * rng.uniform(-1, 1, (1000, 3)))
    x = x.astype("float32")
    assert (x.std(0, dtype="float64") > 0).all()
    bijector = ActNorm((3,))
    assert np.abs(bijector.adapt(x[:500])).max() < 2 and np.abs(bijector.inverse(x[500:])).max() < 2
    np.testing.assert_array_equal(bijector.log_scale[:2], [0, 0])


def test_constant_channel_of_images():
    x = normal(50, 4, 4, 3).numpy()
    x[..., 1] = 0.1
    bijector = ActNorm((4, 4, 3))
    bijector.adapt(x)
    np.testing.assert_allclose(bijector.log_scale, [np.log(x[..., 0].std()), 0, np.log(x[..., 2].std())], atol=1e-5)


@pytest.mark.parametrize("constant", [0.1, 1.1, 7.7, -1e12])
def test_constant_column_keeps_the_density(constant):
    """At the start log p(x) is that of the other column, and of 0 under a standard normal."""
    column = np.random.default_rng(0).normal(3, 2, 1000).astype("float32")
    x = np.stack([column, np.full(1000, constant, "float32")], 1)
    scale = max(1.0, 2.0**-23 * abs(constant))
    wanted = scipy.stats.norm.logpdf(column, column.mean(), column.std()) + scipy.stats.norm.logpdf(0) - np.log(scale)
    for flow in (RealNVP((2,), couplings=4), Steps(lambda: ActNorm((2,)), 3, (2,))):
        model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Normal())
        model.adapt(x)
        np.testing.assert_allclose(model.log_prob(x), wanted, rtol=1e-4, atol=1e-4)


SCALES = 10.0 ** np.arange(-12, 13, 3)


def table():
    """Columns of scales 1e-12 to 1e12, float64, and the same ones standardized; with their log-scales."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1000, len(SCALES))) @ rng.normal(size=2 * [len(SCALES)]) + 1.0) * SCALES
    return x, (x - x.mean(0)) / x.std(0), np.log(x.std(0))


def density_of(x, seed=0):
    keras.utils.set_random_seed(seed)
    model = hy.HybridModel(
        hy.flow_distribution(RealNVP(x.shape[1:], couplings=4, hidden_units=(16,))), hy.heads.Normal()
    )
    randomize([weight for weight in model.density.weights if weight.name not in ("loc", "log_scale")])
    model.adapt(x)
    return model


def test_density_of_columns_of_any_scale():
    x, standardized, log_scales = table()
    x, standardized = x.astype("float32"), standardized.astype("float32")
    wanted = density_of(standardized).log_prob(standardized) - log_scales.sum()
    np.testing.assert_allclose(density_of(x).log_prob(x), wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.integration
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_columns_of_any_scale_train(jit_compile):
    """The loss falls as it does for the same columns standardized, less the log-scales."""
    x, standardized, log_scales = table()
    losses = []
    for rows in (x, standardized):
        model = density_of(rows.astype("float32"))
        model.compile(keras.optimizers.Adam(3e-3), jit_compile=jit_compile)
        y = standardized[:, 0].astype("float32")
        losses.append(model.fit(rows.astype("float32"), y, epochs=4, shuffle=False, verbose=0).history["loss"])
    losses = np.array(losses)
    assert np.isfinite(losses).all() and (np.diff(losses) < 0).all()
    np.testing.assert_allclose(losses[0] - log_scales.sum(), losses[1], atol=0.5)
    assert losses[0, 0] - losses[0, -1] > 1


def test_loc_of_a_tiny_scale_has_no_gradient():
    """An optimizer's step is in the unit of x; of the others it has the gradient of the formula."""
    bijector, x = ActNorm((2,)), tf.constant([[1.0, 2.0]])
    bijector.log_scale.assign(np.log([1e-3, 2.0]))
    with tf.GradientTape() as tape:
        z = bijector.inverse(x)
    np.testing.assert_allclose(tape.gradient(z, bijector.loc.value), [0, -0.5])
