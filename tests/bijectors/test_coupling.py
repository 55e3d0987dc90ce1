"""Couplings of every transformer, against TFP's, formulas and autodiff."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal, randomize

from tfp_hybrid import networks
from tfp_hybrid.bijectors import AffineCoupling, Coupling, SplineCoupling, transformers
from tfp_hybrid.serialization import deserialize, serialize

tfb = tfp.bijectors


@dataclasses.dataclass(frozen=True)
class Skew(transformers.Transformer):
    """`x = sinh(arcsinh(z) + raw / strength)`, a user's transformer."""

    strength: float = 1.0

    def forward(self, z, raw, event_ndims):
        return self.moved(z, raw, event_ndims)

    def inverse(self, x, raw, event_ndims):
        return self.moved(x, -raw, event_ndims)

    def moved(self, value, raw, event_ndims):
        angle = tf.asinh(value) + raw / self.strength
        slope = tf.cosh(angle) / tf.sqrt(1 + value**2)
        return tf.sinh(angle), tf.reduce_sum(tf.math.log(slope), list(range(-event_ndims, 0)))


COUPLINGS = {
    "affine": AffineCoupling,
    "additive": functools.partial(AffineCoupling, additive=True),
    "spline": functools.partial(SplineCoupling, bins=5),
    "user's": functools.partial(Coupling, transformer=Skew(2.0)),
}
every_coupling = pytest.mark.parametrize("make", COUPLINGS.values(), ids=COUPLINGS)


def random_coupling(*args, make=AffineCoupling, **kwargs):
    coupling = make(*args, **kwargs)
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


def test_equals_the_spline_of_tfp_with_the_same_network():
    coupling = random_coupling((5,), make=SplineCoupling, bins=4, bound=2.0, dtype="float64")

    def spline(passing, units):
        raw = tf.reshape(coupling.conditioner(passing), (-1, units, 11)).numpy()
        widths, heights = (
            4 * (0.01 / 4 + 0.99 * np.exp(part) / np.exp(part).sum(-1, keepdims=True))
            for part in (raw[..., :4], raw[..., 4:8])
        )
        slopes = 0.01 + 0.99 * np.logaddexp(0, raw[..., 8:] + np.log(np.e - 1))
        return tfb.RationalQuadraticSpline(widths, heights, slopes, range_min=-2)

    stock = tfb.RealNVP(num_masked=2, bijector_fn=lambda passing, units, **_: tfb.Invert(spline(passing, units)))
    x = 2 * normal(20, 5, dtype="float64")
    np.testing.assert_allclose(coupling.inverse(x), stock.inverse(tf.identity(x)), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(coupling.forward(x), stock.forward(tf.identity(x)), rtol=1e-9, atol=1e-9)
    wanted = spline(x[:, :2], 3).forward_log_det_jacobian(x[:, 2:], event_ndims=1)
    np.testing.assert_allclose(coupling.inverse_and_log_det(x)[1], wanted, rtol=1e-9, atol=1e-9)
    outside = x.numpy()[:, 2:][np.abs(x.numpy()[:, 2:]) > 2]
    assert len(outside) > 5 and set(outside) <= set(coupling.inverse(x).numpy().ravel())


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
@every_coupling
def test_what_passes_and_what_it_depends_on(make, shape, mask, swap, passes):
    coupling = random_coupling(shape, mask=mask, swap=swap, make=make)
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
@every_coupling
def test_starts_as_the_identity(make, shape):
    x = normal(3, *shape)
    coupling = make(shape)
    rounding = 0 if isinstance(coupling, AffineCoupling) else 1e-6
    for value, log_det in (coupling.inverse_and_log_det(x), coupling.forward_and_log_det(x)):
        np.testing.assert_allclose(value, x, rtol=0, atol=rounding)
        np.testing.assert_allclose(log_det, np.zeros(3), rtol=0, atol=rounding)


def test_log_scale_is_bounded():
    coupling = random_coupling((2,), log_scale_bound=0.7)
    log_det = coupling.inverse_and_log_det(1e4 * normal(50, 2))[1].numpy()
    assert np.abs(log_det).max() <= 0.7 + 1e-6 and np.abs(log_det).max() > 0.69


@every_coupling
def test_dropout_is_on_only_in_training(make):
    conditioner = functools.partial(networks.MLP, hidden_units=(32,), dropout=0.5)
    coupling = random_coupling((4,), make=make, conditioner=conditioner)
    x = normal(5, 4)
    calm = coupling.inverse_and_log_det(x)[0].numpy()
    np.testing.assert_array_equal(coupling.inverse(tf.identity(x)), calm)
    assert np.abs(coupling.inverse_and_log_det(x, training=True)[0] - calm).max() > 1e-3


def test_takes_a_built_layer():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(4)])
    coupling = AffineCoupling((3,), conditioner=network)
    assert coupling.conditioner is network
    assert coupling.networks == [network]
    assert {id(v) for v in coupling.trainable_variables} == {id(w.value) for w in network.trainable_weights}


@pytest.mark.parametrize(("shape", "options"), [((4,), {"swap": True}), ((2, 3, 1), {"mask": "checkerboard"})])
@every_coupling
def test_saved_and_copied_couplings_are_the_same(make, shape, options):
    coupling, x = random_coupling(shape, make=make, **options), normal(5, *shape)
    loaded = deserialize(json.loads(json.dumps(serialize(coupling))))
    for one, other in zip(loaded.keras_weights(), coupling.keras_weights(), strict=True):
        one.assign(other)  # Keras stores the weights of its layers beside the configuration
    for again in (loaded, coupling.copy(name="again")):
        assert type(again) is type(coupling) and again.transformer == coupling.transformer
        for one, other in zip(again.inverse_and_log_det(x), coupling.inverse_and_log_det(x), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(("shape", "mask"), [((5,), "channel"), ((2, 2, 3), "channel"), ((2, 3, 2), "checkerboard")])
@every_coupling
def test_pull_back_is_the_gradient(make, shape, mask, swap):
    coupling = random_coupling(shape, mask=mask, swap=swap, make=make, dtype="float64")
    x, weights = normal(4, *shape, dtype="float64"), [weight.value for weight in coupling.keras_weights()]
    with tf.GradientTape() as tape:
        tape.watch(x)
        z, log_det = coupling.inverse_and_log_det(x)
    given = normal(*z.shape, seed=2, dtype="float64"), normal(4, seed=3, dtype="float64")
    wanted = tape.gradient((z, log_det), [x, *weights], given)
    again, dx, _, dweights = coupling.pull_back(z, *given)
    np.testing.assert_allclose(again, x, atol=1e-9)
    for got, one in zip([dx, *dweights], wanted, strict=True):
        np.testing.assert_allclose(got, one, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(event_shape=(1,)), r"`event_shape` is \(1,\).* at least 2 .*ActNorm"),
        (dict(event_shape=(4, 4, 1)), r"`event_shape` is \(4, 4, 1\).*Squeeze.*checkerboard"),
        (dict(event_shape=(4, 4)), r"`event_shape` is \(4, 4\); wanted \(d,\) for vectors or \(H, W, C\) for images"),
        (
            dict(event_shape=(4,), mask="checkerboard"),
            r"`event_shape` is \(4,\); wanted an image .* of at least two pixels for mask='checkerboard'",
        ),
        (dict(event_shape=(4,), mask="stripes"), r"`mask` is 'stripes'; wanted one of .*channel.*checkerboard"),
        (
            dict(event_shape=(4,), conditioner=lambda shape, units: networks.MLP(shape, units + 1)),
            r"`conditioner` maps \(2,\) to \(\d+,\); wanted \(\d+,\)",
        ),
        (dict(event_shape=(4,), conditioner=3), r"`conditioner` is 3; wanted a function"),
    ],
)
@pytest.mark.parametrize("cls", [AffineCoupling, SplineCoupling])
def test_bad_arguments(cls, arguments, message):
    with pytest.raises(ValueError, match=f"(?s){cls.__name__}: {message}"):
        cls(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Coupling((4,), tfb.Exp()), "Coupling: `transformer` is .*; wanted a `bijectors.transformers"),
        (lambda: AffineCoupling((4,), log_scale_bound=0), "`log_scale_bound` is 0; wanted a positive number"),
        (lambda: SplineCoupling((4,), bins=1), "`bins` is 1; wanted a whole number"),
        (lambda: SplineCoupling((4,), bound=-1.0), "`bound` is -1.0; wanted a positive number"),
    ],
)
def test_bad_transformers(make, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


def test_the_size_of_a_conditioner_is_in_the_error():
    with pytest.raises(ValueError, match=r"AffineCoupling: `conditioner` maps \(2,\) to \(5,\); wanted \(4,\)"):
        AffineCoupling((4,), conditioner=lambda shape, units: networks.MLP(shape, units + 1))


def test_subclasses_with_a_conditioner_of_their_own_are_copied():
    class Mine(Coupling):
        def __init__(self, event_shape, name="mine"):
            parameters = dict(locals())
            super().__init__(event_shape, transformers.Affine(), name=name, parameters=parameters)

    class Forgetful(Coupling):
        def __init__(self, event_shape):
            super().__init__(event_shape, transformers.Affine())

    coupling, z = Mine((4,)), normal(3, 4)
    np.testing.assert_allclose(coupling.copy().forward(z), coupling.forward(z), rtol=1e-6)
    with pytest.raises(ValueError, match="Forgetful: pass `parameters=dict\\(locals\\(\\)\\)`"):
        Forgetful((4,))
