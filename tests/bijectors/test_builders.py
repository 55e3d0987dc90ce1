"""RealNVP and Glow: the shape of what they build, and their options."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal, parts, randomize

import tfp_hybrid as hy
from tfp_hybrid.bijectors import (
    ActNorm,
    AffineCoupling,
    Dequantize,
    FactorOut,
    FusedChain,
    Glow,
    InvertibleLinear,
    RealNVP,
    Squeeze,
)

tfb = tfp.bijectors


def count(bijector, cls):
    return sum(isinstance(part, cls) for part in parts(bijector))


def test_squeeze_moves_each_block_of_pixels_to_channels():
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(Squeeze((4, 4, 1)).inverse(x)[0, 1, 0], [8, 9, 12, 13])


def test_factor_out_keeps_the_second_half_as_it_is():
    norm = ActNorm((1, 2, 1))
    norm.loc.assign([10.0])
    below = FusedChain([norm, tfb.Reshape(event_shape_out=(1, 2, 1), event_shape_in=(2,))], (1, 2, 1))
    x = normal(3, 1, 2, 3)
    z = FactorOut(below, (1, 2, 3)).inverse(x).numpy()
    np.testing.assert_allclose(z[:, :2], x[:, 0, :, 0] - 10, rtol=1e-6)
    np.testing.assert_array_equal(z[:, 2:], x[:, 0, :, 1:].numpy().reshape(3, 4))


@pytest.mark.parametrize(("levels", "steps"), [(1, 3), (2, 2), (3, 1)])
def test_glow_counts(levels, steps):
    flow = Glow((8, 16, 1), levels=levels, steps=steps, hidden_units=4)
    for cls in (ActNorm, InvertibleLinear, AffineCoupling):
        assert count(flow, cls) == levels * steps
    assert count(flow, Squeeze) == levels and count(flow, FactorOut) == levels - 1 and count(flow, Dequantize) == 1
    assert flow.latent_shape == (128,) and flow.event_shape == (8, 16, 1)


def test_real_nvp_counts():
    flow = RealNVP((4, 4, 2), couplings=3, levels=2, hidden_units=4)
    masks = [part.mask for part in parts(flow) if isinstance(part, AffineCoupling)]
    assert masks == 2 * ["checkerboard", "checkerboard", "channel"]
    assert count(flow, Squeeze) == 2 and count(flow, FactorOut) == 1 and count(flow, Dequantize) == 0
    assert flow.latent_shape == (32,)
    vector = RealNVP((5,), couplings=4)
    assert [part.swap for part in parts(vector) if isinstance(part, AffineCoupling)] == [False, True, False, True]
    assert count(vector, ActNorm) == 4 and vector.latent_shape == (5,)


@pytest.mark.parametrize(
    "flow",
    [
        Glow((4, 4, 1), levels=2, steps=2, hidden_units=4, additive=True, quantization_levels=None),
        RealNVP((3,), couplings=2, additive=True),
        RealNVP((2, 2, 1), couplings=2, levels=1, hidden_units=4, additive=True),
    ],
)
def test_additive_couplings_keep_volume(flow):
    networks = [weight for weight in flow.keras_weights() if weight.name.endswith(("kernel", "bias"))]
    assert len(networks) < len(flow.keras_weights())
    randomize(networks, scale=0.5)
    x = normal(5, *flow.event_shape)
    z, log_det = flow.inverse_and_log_det(x)
    np.testing.assert_allclose(log_det, np.zeros(5), atol=1e-5)
    assert np.abs(tf.reshape(z, (5, -1)) - tf.reshape(x, (5, -1))).max() > 0.01


@pytest.mark.parametrize("builder", ["glow", "real_nvp"])
def test_conditioner_and_its_width_are_used(builder):
    calls = []

    def conditioner(shape, units):
        calls.append((tuple(shape), units))
        return keras.Sequential([keras.Input(shape), keras.layers.Dense(units)])

    if builder == "glow":
        Glow((2, 2, 1), levels=1, steps=2, conditioner=conditioner)
        assert calls == [((1, 1, 2), 4)] * 2
        flow = Glow((2, 2, 1), levels=1, steps=1, hidden_units=7)
        widths = [part.conditioner.layers[0].filters for part in parts(flow) if count(part, AffineCoupling)]
    else:
        RealNVP((5,), couplings=2, conditioner=conditioner)
        assert calls == [((2,), 6), ((3,), 4)]
        flow = RealNVP((5,), couplings=2, hidden_units=(7,))
        widths = [part.conditioner.layers[0].units for part in parts(flow) if count(part, AffineCoupling)]
    assert set(widths) == {7}


@pytest.mark.parametrize("shape", [4, np.int64(4), (4, 4, None), (4.0, 4, 1), None])
def test_glow_refuses_what_is_no_image_by_name(shape):
    with pytest.raises(ValueError, match="^Glow: `event_shape` is .*; wanted"):
        Glow(shape)


def test_the_width_may_be_of_numpy_and_none_means_no_hidden_layer():
    for width, wanted in ((np.int64(7), [7, 6]), ((), [6])):
        flow = RealNVP((5,), couplings=1, hidden_units=width)
        (coupling,) = (part for part in parts(flow) if isinstance(part, AffineCoupling))
        assert [layer.units for layer in coupling.conditioner.layers] == wanted
    assert hy.bijectors.AutoregressiveFlow(3, steps=1, hidden_units=np.int64(7)).event_shape == (3,)
    for builder in (RealNVP, hy.bijectors.AutoregressiveFlow):
        with pytest.raises(ValueError, match=f"^{builder.__name__}: `hidden_units` is 0; wanted"):
            builder(5, hidden_units=0)


BUILDERS_OF_VECTORS = {
    "RealNVP": hy.bijectors.RealNVP,
    "NeuralSplineFlow": hy.bijectors.NeuralSplineFlow,
    "AutoregressiveFlow": hy.bijectors.AutoregressiveFlow,
    "CircularSplineFlow": hy.bijectors.CircularSplineFlow,
    "IntegerFlow": hy.bijectors.IntegerFlow,
}


@pytest.mark.parametrize("name", BUILDERS_OF_VECTORS)
def test_the_number_of_features_may_be_of_numpy_and_must_be_whole(name):
    assert tuple(BUILDERS_OF_VECTORS[name](np.int64(4)).event_shape) == (4,)
    for shape in (4.0, 0, True, (4, None), "4"):
        with pytest.raises(ValueError, match=f"^{name}: `event_shape` is .*; wanted a whole number, or a tuple"):
            BUILDERS_OF_VECTORS[name](shape)
