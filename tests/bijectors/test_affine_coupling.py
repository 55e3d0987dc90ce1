import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal, randomize

from tfp_hybrid import networks
from tfp_hybrid.bijectors import AffineCoupling

tfb = tfp.bijectors


def random_coupling(*args, **kwargs):
    coupling = AffineCoupling(*args, **kwargs)
    randomize(coupling.trainable_variables, scale=0.5)
    return coupling


@pytest.mark.parametrize("additive", [False, True])
def test_equals_the_coupling_of_tfp_with_the_same_network(additive):
    coupling = random_coupling((5,), additive=additive, log_scale_bound=1.5)

    def shift_and_log_scale(passing, units):
        raw = coupling.conditioner(passing)
        return (raw, None) if additive else (raw[:, :units], 1.5 * tf.tanh(raw[:, units:] / 1.5))

    stock = tfb.RealNVP(num_masked=2, shift_and_log_scale_fn=shift_and_log_scale)
    x = 3 * normal(6, 5)
    np.testing.assert_allclose(coupling.inverse(x), stock.inverse(tf.identity(x)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(coupling.forward(x), stock.forward(tf.identity(x)), rtol=1e-5, atol=1e-5)
    wanted = stock.inverse_log_det_jacobian(tf.identity(x), event_ndims=1)
    np.testing.assert_allclose(coupling.inverse_and_log_det(x)[1], np.broadcast_to(wanted, 6), rtol=1e-4, atol=1e-5)


BOARD = np.add.outer(np.arange(3), np.arange(4))[..., None] % 2 == 0


@pytest.mark.parametrize(
    ("shape", "mask", "swap", "passes"),
    [
        ((5,), "channel", False, np.arange(5) < 2),
        ((5,), "channel", True, np.arange(5) >= 2),
        ((3, 4, 2), "channel", False, np.broadcast_to([True, False], (3, 4, 2))),
        ((3, 4, 2), "checkerboard", False, np.broadcast_to(BOARD, (3, 4, 2))),
        ((3, 4, 2), "checkerboard", True, np.broadcast_to(~BOARD, (3, 4, 2))),
    ],
)
def test_what_passes_and_what_it_depends_on(shape, mask, swap, passes):
    coupling = random_coupling(shape, mask, swap)
    x = normal(4, *shape).numpy()
    z = coupling.inverse(x).numpy()
    np.testing.assert_array_equal(z[:, passes], x[:, passes])
    assert np.all(z[:, ~passes] != x[:, ~passes])
    # Moving one transformed entry moves only itself.
    where = tuple(np.argwhere(~passes)[0])
    moved = x.copy()
    moved[(slice(None), *where)] += 1
    changed = np.any(coupling.inverse(moved).numpy() != z, axis=0)
    assert [tuple(index) for index in np.argwhere(changed)] == [where]


@pytest.mark.parametrize(("shape", "swap"), [((5,), False), ((5,), True), ((2, 3, 4), False), ((2, 3, 3), True)])
@pytest.mark.parametrize("second_order", [False, True])
def test_gradients_are_those_of_the_formula(shape, swap, second_order):
    """Ours are written by hand; here autodiff finds them, those of the log-det too, from eq. 7 of Dinh et al. 2017."""
    coupling = random_coupling(shape, swap=swap, log_scale_bound=1.5, dtype="float64")
    first, axes = shape[-1] // 2, list(range(1, len(shape) + 1))

    def formula(x):
        head, tail = x[..., :first], x[..., first:]
        passing, transformed = (tail, head) if swap else (head, tail)
        shift, raw = tf.split(coupling.conditioner(passing), 2, axis=-1)
        log_scale = 1.5 * tf.tanh(raw / 1.5)
        transformed = (transformed - shift) * tf.exp(-log_scale)
        z = tf.concat([transformed, passing] if swap else [passing, transformed], -1)
        return z, -tf.reduce_sum(log_scale, axes)

    def gradients(function):
        x = normal(4, *shape, dtype="float64")
        inputs = [x, *coupling.trainable_variables]
        with tf.GradientTape() as outer, tf.GradientTape() as tape:
            for watching in (outer, tape):
                watching.watch(x)
            z, log_det = function(x)
            loss = tf.reduce_sum(z * normal(*z.shape, dtype="float64")) + tf.reduce_sum(log_det * [1.0, -2.0, 3.0, 0.5])
            first_order = tape.gradient(loss, inputs)
            squares = sum(tf.reduce_sum(gradient**2) for gradient in first_order)
        return outer.gradient(squares, inputs) if second_order else first_order

    for got, wanted in zip(gradients(coupling.inverse_and_log_det), gradients(formula), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2)])
def test_starts_as_the_identity(shape):
    x = normal(3, *shape)
    z, log_det = AffineCoupling(shape).inverse_and_log_det(x)
    np.testing.assert_array_equal(z, x)
    np.testing.assert_array_equal(log_det, np.zeros(3))


def test_log_scale_is_bounded():
    coupling = random_coupling((2,), log_scale_bound=0.7)
    log_det = coupling.inverse_and_log_det(1e4 * normal(50, 2))[1].numpy()
    assert np.abs(log_det).max() <= 0.7 + 1e-6 and np.abs(log_det).max() > 0.69


def test_dropout_is_on_only_in_training():
    conditioner = functools.partial(networks.MLP, hidden_units=(32,), dropout=0.5)
    coupling = random_coupling((4,), conditioner=conditioner)
    x = normal(5, 4)
    calm = coupling.inverse_and_log_det(x)[0].numpy()
    np.testing.assert_array_equal(coupling.inverse(tf.identity(x)), calm)
    assert np.abs(coupling.inverse_and_log_det(x, training=True)[0] - calm).max() > 1e-3


def test_takes_a_built_layer():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(4)])
    coupling = AffineCoupling((3,), conditioner=network)
    assert coupling.conditioner is network
    assert {id(v) for v in coupling.trainable_variables} == {id(w.value) for w in network.trainable_weights}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(event_shape=(1,)), r"`event_shape` is \(1,\).* at least 2 .*ActNorm"),
        (dict(event_shape=(4, 4, 1)), r"`event_shape` is \(4, 4, 1\).*Squeeze.*checkerboard"),
        (dict(event_shape=(4, 4)), r"`event_shape` is \(4, 4\); wanted a vector's \(d,\) or an image's \(H, W, C\)"),
        (dict(event_shape=(4,), mask="checkerboard"), r"`event_shape` is \(4,\).*checkerboard mask wants an image"),
        (dict(event_shape=(4,), mask="stripes"), r"`mask` is 'stripes'; wanted one of .*channel.*checkerboard"),
        (
            dict(event_shape=(4,), conditioner=lambda shape, units: networks.MLP(shape, units + 1)),
            r"`conditioner` maps \(2,\) to \(5,\); wanted \(4,\)",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=f"(?s)AffineCoupling: {message}"):
        AffineCoupling(**arguments)
