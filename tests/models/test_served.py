"""What an exported model answers, evaluated in the package: every head, and numbers that are always finite."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from helpers import blobs, integer_model, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import tables
from tfp_hybrid.models.served import Served, answers, are_inputs, finite

X = blobs(20)[0]
HEADS = {
    "bernoulli": lambda: hy.heads.Bernoulli(),
    "categorical": lambda: hy.heads.Categorical(3),
    "heteroscedastic": lambda: hy.heads.HeteroscedasticNormal(),
    "labels": lambda: hy.heads.Bernoulli(event_shape=2),
    "normal": lambda: hy.heads.Normal(event_shape=2),
    "mixture": lambda: hy.heads.NormalMixture(),
    "ordinal": lambda: hy.heads.Ordinal(3),
    "partly": lambda: hy.heads.PartlyObserved(hy.heads.Normal(event_shape=2)),
    "poisson": lambda: hy.heads.ExponentialFamily(tfp.glm.Poisson()),
    "variational": lambda: hy.heads.Variational(hy.heads.Categorical(3), 20),
    "zero inflated": lambda: hy.heads.ZeroInflated(),
}
LOWEST, HIGHEST = np.finfo("float32").min, np.finfo("float32").max


@pytest.mark.parametrize("name", HEADS)
def test_every_head_answers(name):
    """Traced, with shapes that are known but for the number of rows."""
    model = tiny_model(HEADS[name](), couplings=1)
    x = tf.TensorSpec((None, 2), tf.float32)
    traced = tf.function(Served(model, answers).call, input_signature=[x], autograph=False).get_concrete_function()
    assert all(output.shape[1:].is_fully_defined() for output in traced.structured_outputs.values())
    found = traced(tf.constant(X))
    p_y, log_prob = model.predict_distribution(X)
    np.testing.assert_allclose(found["prediction"], model.head.mean(p_y), rtol=1e-5)
    np.testing.assert_allclose(found["log_prob_x"], log_prob, rtol=1e-5)
    assert "uncertainty" in found and ("epistemic" in found) == model.head.is_integrated
    y = np.zeros((len(X), *model.head.event_shape), "int32" if model.head.integer_labels else "float32")
    late = Served(model, answers).log_prob_y(tf.constant(X), tf.constant(y))["log_prob_y"]
    np.testing.assert_allclose(late, p_y.log_prob(model.head.prepare_labels(y)), rtol=1e-5)


def test_numbers_are_finite_and_their_order_is_kept():
    values = tf.constant([np.nan, -np.inf, -1.0, np.inf, 5.0], tf.float64)
    valid = tf.constant([True, True, True, True, False])
    found = finite({"log_prob_x": values, "score": values, "percentile": values, "abstain": values < 0}, valid)
    np.testing.assert_array_equal(found["log_prob_x"], np.float32([LOWEST, LOWEST, -1, HIGHEST, LOWEST]))
    np.testing.assert_array_equal(found["score"], np.float32([HIGHEST, LOWEST, -1, HIGHEST, HIGHEST]))
    assert found["percentile"][-1] == 0 and found["abstain"].numpy().tolist() == [False, True, True, False, True]


def test_what_predict_refuses_is_no_input():
    images = integer_model(levels=4)
    x = np.zeros((5, 4, 4, 1), "float32")
    x[1:, 0, 0, 0] = -1, 4, 0.5, np.nan
    assert are_inputs(tf.constant(x), images).numpy().tolist() == [True, False, False, False, False]
    for row in x[1:]:
        with pytest.raises(ValueError, match="x"):
            images.predict(row[np.newaxis], verbose=0)


def test_holes_of_tables_are_inputs():
    columns = tables.Columns.from_frame(pd.DataFrame({"a": [1.5, None, 2.25, 3.0], "b": ["u", "v", "u", "v"]}))
    size = columns.latent_shape[0]
    flow = hy.bijectors.FusedChain([columns, hy.bijectors.ActNorm((size,))], (2,))
    density = hy.DensityModel(hy.flow_distribution(flow))
    x = tf.constant([[np.nan, 0.0], [np.inf, 0.0]], tf.float64)
    assert are_inputs(x, density).numpy().tolist() == [True, False]
    found = Served(density, answers)(x)["log_prob_x"]
    np.testing.assert_allclose(found[0], density.log_prob(x[:1])[0], rtol=1e-5)
    assert found[1] == LOWEST


def test_exposures_that_predict_refuses_are_no_inputs():
    model = tiny_model(hy.heads.Offset(hy.heads.ExponentialFamily("Poisson"), exposure="hours"), couplings=1)
    hours = np.float32([2, 0, -1, np.nan, np.inf])
    found = Served(model, answers).call({"x": tf.constant(X[:5]), "hours": tf.constant(hours)})
    np.testing.assert_array_equal(found["prediction"].numpy() == LOWEST, [False] + [True] * 4)
    rate = model.predict({"x": X[:1], "hours": np.ones(1)}, verbose=0)
    np.testing.assert_allclose(found["prediction"][:1], 2 * rate, rtol=1e-5)
    for row in range(1, 5):
        with pytest.raises(ValueError, match="'hours' holds"):
            model.predict({"x": X[row : row + 1], "hours": hours[row : row + 1]}, verbose=0)


def test_features_are_not_called_x():
    """And an encoder takes images as files."""
    encoder = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
    model = tiny_model(hy.heads.Normal(), couplings=1, encoder=encoder)
    images = np.random.default_rng(0).integers(256, size=(5, 4, 4, 3)).astype("uint8")
    found = Served(model, answers).images(tf.stack([tf.io.encode_png(image) for image in images]))
    assert found.keys() == {"prediction", "uncertainty", "log_prob_features"}
    np.testing.assert_allclose(found["prediction"], model.predict(images, verbose=0), rtol=1e-5)
    np.testing.assert_allclose(found["log_prob_features"], model.log_prob(images), rtol=1e-5)
