"""Splines with parameters of their own for each value: against TFP's, autodiff, and at the ends."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal

from tfp_hybrid.bijectors.rational_quadratic import inverse_spline, spline

BINS, BOUND = 5, 2.0


def stock(raw):
    widths, heights = (2 * BOUND * (0.01 / BINS + 0.99 * tf.nn.softmax(raw[..., i : i + BINS])) for i in (0, BINS))
    slopes = 0.01 + 0.99 * tf.nn.softplus(raw[..., 2 * BINS :] + tf.cast(np.log(np.e - 1), raw.dtype))
    return tfp.bijectors.RationalQuadraticSpline(widths, heights, slopes, range_min=-BOUND)


def forward(value, raw):
    return stock(raw).forward(value), stock(raw).forward_log_det_jacobian(value, 0)


def inverse(value, raw):
    return stock(raw).inverse(value), stock(raw).inverse_log_det_jacobian(value, 0)


def bounded(function):
    return lambda value, raw: function(value, raw, BOUND)


def derivatives(function, value, raw):
    """Value, log-slope, their gradients, and those of the squared gradients."""
    with tf.GradientTape(persistent=True) as outer:
        outer.watch((value, raw))
        with tf.GradientTape() as tape:
            tape.watch((value, raw))
            outputs = function(value, raw)
            total = tf.reduce_sum(tf.sin(outputs[0])) + tf.reduce_sum(outputs[1] * tf.cos(outputs[0]))
        first = tape.gradient(total, (value, raw))
        squares = tf.add_n([tf.reduce_sum(gradient**2) for gradient in first])
    return [*outputs, *first, *outer.gradient(squares, (value, raw))]


@pytest.mark.parametrize(("ours", "theirs"), [(bounded(spline), forward), (bounded(inverse_spline), inverse)])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_value_slope_and_gradients_are_those_of_tfp(ours, theirs, jit_compile):
    value, raw = 1.5 * normal(20, 3, dtype="float64"), normal(20, 3, 3 * BINS - 1, seed=2, dtype="float64")
    compiled = tf.function(lambda value, raw: derivatives(ours, value, raw), autograph=False, jit_compile=jit_compile)
    for got, wanted in zip(compiled(value, raw), derivatives(theirs, value, raw), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("ours", "theirs"), [(bounded(spline), forward), (bounded(inverse_spline), inverse)])
def test_float32_is_near_float64(ours, theirs):
    value, raw = 1.5 * normal(300, dtype="float64"), normal(300, 3 * BINS - 1, seed=2, dtype="float64")
    wanted = theirs(value, raw)
    for got, one in zip(ours(tf.cast(value, "float32"), tf.cast(raw, "float32")), wanted, strict=True):
        assert got.dtype == "float32"
        np.testing.assert_allclose(got, one, rtol=1e-3, atol=1e-4)


def test_values_and_parameters_broadcast():
    value, raw = normal(7, 1, 2, dtype="float64"), normal(3, 1, 3 * BINS - 1, seed=2, dtype="float64")
    for got, wanted in zip(spline(value, raw, BOUND), forward(value, raw), strict=True):
        assert got.shape == (7, 3, 2)
        np.testing.assert_allclose(got, np.broadcast_to(wanted, (7, 3, 2)), rtol=1e-9, atol=1e-9)


def test_ends_and_outside_are_the_identity():
    value = tf.constant([-np.inf, -5.0, -BOUND, BOUND, 5.0, np.inf], tf.float64)
    raw = normal(6, 3 * BINS - 1, dtype="float64")
    for function in (spline, inverse_spline):
        with tf.GradientTape() as tape:
            tape.watch(raw)
            moved, log_slope = function(value, raw, BOUND)
        np.testing.assert_array_equal(moved, value)
        np.testing.assert_array_equal(log_slope, np.zeros(6))
        np.testing.assert_array_equal(tape.gradient((moved, log_slope), raw), np.zeros(raw.shape))


def test_large_parameters_are_finite():
    raw, value = 200 * normal(500, 3 * BINS - 1), tf.constant(np.linspace(-1.99, 1.99, 500), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch((value, raw))
        outputs = spline(value, raw, BOUND)
    gradients = tape.gradient(outputs, (value, raw))
    assert all(np.isfinite(part).all() for part in (*outputs, *gradients))


def test_not_a_number_stays():
    y, log_slope = spline(tf.constant([np.nan], tf.float64), normal(1, 3 * BINS - 1, dtype="float64"), BOUND)
    assert np.isnan(y[0]) and np.isnan(log_slope[0])
