"""Autoregressive flows and neural spline flows: against TFP's with the same weights, and what they are made of."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import normal, parts, randomize

import tfp_hybrid as hy
from tfp_hybrid.bijectors import (
    ActNorm,
    AutoregressiveFlow,
    InvertibleLinear,
    MaskedAutoregressive,
    NeuralSplineFlow,
    Spline,
    SplineCoupling,
    transformers,
)
from tfp_hybrid.made import MADE, MaskedDense

tfb = tfp.bijectors


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_outputs_see_what_comes_before(size, reverse):
    entries = np.concatenate([np.arange(size), np.repeat(np.arange(size), 2)])
    network = MADE(entries, size, (16, 16), activation="softplus", reverse=reverse)
    randomize(network.trainable_weights, scale=1.0)
    x = normal(1, size)
    with tf.GradientTape() as tape:
        tape.watch(x)
        raw = network(x)
    jacobian = tape.jacobian(raw, x)[0, :, 0].numpy()
    before = entries[:, np.newaxis] < np.arange(size) if reverse else entries[:, np.newaxis] > np.arange(size)
    assert ((jacobian != 0) == before).all()


@pytest.mark.parametrize("use_bias", [True, False])
def test_a_masked_layer_is_a_masked_product(use_bias):
    layer, x = MaskedDense([0, 1, 2], [0, 1, 1, 2], use_bias=use_bias), normal(5, 3)
    layer(x)
    randomize(layer.trainable_weights, scale=1.0)
    kernel, *bias = layer.get_weights()
    mask = np.array([[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]])
    np.testing.assert_allclose(layer(x), x @ (kernel * mask) + sum(bias), rtol=1e-5)
    assert len(bias) == use_bias


def test_affine_is_that_of_tfp():
    ours = MaskedAutoregressive((4,), transformers.Affine(1.5), hidden_units=(8,), dtype="float64")
    randomize(ours.trainable_variables, scale=0.5)

    def shift_and_log_scale(x):
        shift, raw = tf.split(ours.conditioner(x), 2, -1)
        return shift, 1.5 * tf.tanh(raw / 1.5)

    theirs = tfb.MaskedAutoregressiveFlow(shift_and_log_scale)
    z = normal(6, 4, dtype="float64")
    x, log_det = ours.forward_and_log_det(z)
    np.testing.assert_allclose(x, theirs.forward(z), rtol=1e-9)
    np.testing.assert_allclose(log_det, theirs.forward_log_det_jacobian(z, 1), rtol=1e-9)
    np.testing.assert_allclose(ours.inverse(tf.identity(x)), theirs.inverse(tf.identity(x)), rtol=1e-6)


def test_splines_are_those_of_tfp():
    ours = MaskedAutoregressive((3,), transformers.RationalQuadraticSpline(5, 2.0), hidden_units=(8,), dtype="float64")
    randomize(ours.trainable_variables, scale=0.5)

    def spline(x):
        raw = tf.reshape(ours.conditioner(x), (-1, 3, 14))
        widths, heights = (4.0 * (0.01 / 5 + 0.99 * tf.nn.softmax(raw[..., i : i + 5])) for i in (0, 5))
        slopes = 0.01 + 0.99 * tf.nn.softplus(raw[..., 10:] + np.log(np.e - 1))
        return tfb.Invert(tfb.RationalQuadraticSpline(widths, heights, slopes, range_min=-2.0))

    theirs = tfb.MaskedAutoregressiveFlow(bijector_fn=spline)
    z = normal(6, 3, dtype="float64")
    x, log_det = ours.forward_and_log_det(z)
    np.testing.assert_allclose(x, theirs.forward(z), rtol=1e-6)
    np.testing.assert_allclose(log_det, theirs.forward_log_det_jacobian(z, 1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "flow",
    [
        lambda: NeuralSplineFlow(2, steps=2, hidden_units=8),
        lambda: AutoregressiveFlow(2, steps=2, hidden_units=(8,)),
        lambda: AutoregressiveFlow(2, steps=2, bins=4, hidden_units=(8,)),
    ],
)
def test_densities_integrate_to_one(flow):
    p_x = hy.flow_distribution(flow())
    randomize(p_x.trainable_variables, scale=0.2)
    side = np.linspace(-12, 12, 500)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2).astype("float32")
    total = np.exp(p_x.log_prob(grid).numpy().astype(float)).sum() * (side[1] - side[0]) ** 2
    assert total == pytest.approx(1, abs=5e-3)


def test_steps_of_the_builders():
    def count(flow, cls):
        return sum(isinstance(part, cls) for part in parts(flow))

    flow = NeuralSplineFlow(5, steps=3, hidden_units=4)
    assert [count(flow, cls) for cls in (ActNorm, InvertibleLinear, Spline, SplineCoupling)] == [3, 3, 3, 3]
    flow = NeuralSplineFlow((4, 4, 1), steps=2, levels=2, hidden_units=4, quantization_levels=16)
    assert [count(flow, cls) for cls in (Spline, SplineCoupling)] == [0, 4] and flow.latent_shape == (16,)
    flow = AutoregressiveFlow((4,), steps=3, hidden_units=4)
    assert [part.reverse for part in parts(flow) if isinstance(part, MaskedAutoregressive)] == [False, True, False]


def test_flows_start_as_standardization():
    x = normal(50, 3)
    for flow in (NeuralSplineFlow(3, steps=2), AutoregressiveFlow(3), AutoregressiveFlow(3, bins=4)):
        z = flow.inverse(x)
        np.testing.assert_allclose(tf.reduce_sum(z**2, -1), tf.reduce_sum(x**2, -1), rtol=1e-4)


@pytest.mark.integration
@pytest.mark.parametrize(
    "flow",
    [
        lambda: NeuralSplineFlow(2, steps=1, bins=4, hidden_units=8),
        lambda: AutoregressiveFlow(2, steps=1, bins=4, hidden_units=8),
    ],
)
def test_models_are_trained_and_saved(flow, tmp_path, request):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, 500)
    x = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * rng.normal(size=(500, 2))
    model = hy.HybridModel(hy.flow_distribution(flow()), hy.heads.Bernoulli(), generative_weight=1.0)
    model.compile(keras.optimizers.Adam(1e-2))
    history = model.fit(x, (angle > 1.5).astype(int), epochs=20, batch_size=100, verbose=0).history
    assert history["log_prob_x"][-1] > history["log_prob_x"][0] + 0.5
    request.getfixturevalue("eagerly")  # the training was a graph
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.log_prob(x), model.log_prob(x))
    np.testing.assert_allclose(again.sample(5, seed=1)["x"], model.sample(5, seed=1)["x"], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaskedAutoregressive((2, 2), transformers.Affine()), r"`event_shape` is \(2, 2\); wanted \(d,\)"),
        (lambda: MaskedAutoregressive((2,), "affine"), "`transformer` is 'affine'; wanted a"),
        (
            lambda: MaskedAutoregressive(
                (2,), transformers.Affine(), conditioner=lambda e, s, reverse: keras.layers.Dense(3)
            ),
            r"maps \(1, 2\) to \(1, 3\); wanted \(1, 4\)",
        ),
        (lambda: AutoregressiveFlow(2, steps=0), "AutoregressiveFlow: `steps` is 0"),
        (lambda: AutoregressiveFlow(2, bins=1), "`bins` is 1"),
        (lambda: AutoregressiveFlow((2, 2, 1)), r"AutoregressiveFlow: `event_shape` is \(2, 2, 1\)"),
        (lambda: AutoregressiveFlow(()), r"AutoregressiveFlow: `event_shape` is \(\)"),
        (lambda: MADE([0, 2], 2), r"MADE: `entries` is \[0, 2\]; wanted an entry of x for each output, 0 .. 1"),
        (lambda: MADE([-1, 0], 2), "MADE: `entries` is"),
        (lambda: MADE([0.5, 1], 2), "MADE: `entries` is"),
        (lambda: MADE([], 2), "MADE: `entries` is"),
        (lambda: MADE([0, 1], 2.0), "MADE: `size` is 2.0"),
        (lambda: MADE([0, 1], 2, condition_size=-1), "MADE: `condition_size` is -1"),
        (lambda: MADE([0, 1], 2, hidden_units=(8, 0)), r"MADE: `hidden_units` is \(8, 0\)"),
        (lambda: NeuralSplineFlow(1), "wanted at least 2 entries"),
        (lambda: NeuralSplineFlow(2, bins=1), "`bins` is 1"),
        (lambda: NeuralSplineFlow(2, bound=0), "`bound` is 0"),
        (lambda: NeuralSplineFlow((3, 4, 1)), "wanted sides"),
        (lambda: NeuralSplineFlow(2, conditioner=keras.layers.Dense(3)), "which is called for each coupling"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
