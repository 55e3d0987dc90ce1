"""Models on an integer flow: metrics are those of a probability, and all that a model does works."""

import keras
import numpy as np
import pytest
from helpers import randomize

import tfp_hybrid as hy

RNG = np.random.default_rng(0)
X, Y = RNG.integers(5, size=(48, 4, 4, 1)), RNG.integers(3, size=48)


def model_of(head=True):
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.IntegerFlow((4, 4, 1), steps=1, levels=1, hidden_units=4, quantization_levels=5)
    p_x = hy.flow_distribution(flow)
    model = hy.HybridModel(p_x, hy.heads.Categorical(3), 0.1) if head else hy.DensityModel(p_x)
    randomize(model.trainable_weights)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


@pytest.mark.parametrize("head", [True, False])
def test_bits_per_dim_are_those_of_the_probability(head):
    model = model_of(head)
    found = model.evaluate(X, Y if head else None, verbose=0, return_dict=True)
    z = model.encode(X).z
    nats = model.distribution.distribution.log_prob(z).numpy()
    np.testing.assert_allclose(model.log_prob(X), nats, rtol=1e-5)
    assert found["bits_per_dim"] == pytest.approx(-nats.mean() / 16 / np.log(2), rel=1e-5)
    np.testing.assert_array_equal(z, np.rint(z))


@pytest.mark.integration
@pytest.mark.parametrize("head", [True, False])
def test_training_saving_and_loading(head, tmp_path):
    model = model_of(head)
    data = (X, Y) if head else (X,)
    before = [weight.numpy() for weight in model.trainable_weights]
    losses = model.fit(*data, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.1
    for old, weight in zip(before, model.trainable_weights, strict=True):
        assert np.any(old != weight), weight.path
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.log_prob(X), model.log_prob(X))
    np.testing.assert_array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert again.quantization_levels == 5 and len(again.weights) == len(model.weights)
    drawn = again.sample(20, seed=0)
    drawn = drawn["x"] if head else drawn
    assert np.isin(drawn, range(5)).all() and np.isfinite(again.log_prob(np.asarray(drawn))).all()


@pytest.mark.parametrize(
    "x, message",
    [
        (X + 0.5, "x holds fractions such as .*; wanted integers 0 .. 4"),
        (X + 1, "x has values from 1 to 5; wanted integers 0 .. 4"),
        (X - 1, "x has values from -1 to 3; wanted integers 0 .. 4"),
    ],
)
def test_other_values_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        model_of(head=False).log_prob(x)
