"""`attack`, against closed forms of a linear-Gaussian hybrid and by what the changed inputs are."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, tiny_model

import tfp_hybrid as hy
from tfp_hybrid.uncertainty import attack


@pytest.fixture(scope="module")
def linear():
    """z = x / 2, and logistic regression with known weights, whose loss has the gradient (p - y) w / 2."""
    flow = hy.bijectors.ActNorm((2,))
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Bernoulli(), generative_weight=1.0)
    flow.log_scale.assign([np.log(2.0)] * 2)
    model.head.kernel.assign(tf.reshape([3.0, -2.0], model.head.kernel.shape))
    return model


def test_fgsm_is_the_sign_of_the_gradient(linear):
    x, y = np.array([[0.5, 0.25], [-1.0, 2.0], [0.1, 0.2]], "float32"), np.array([1, 0, 1])
    sign = np.sign([3.0, -2.0]) * np.where(y == 0, 1, -1)[:, None]
    np.testing.assert_allclose(attack.fgsm(linear, x, y, 0.3), x + 0.3 * sign, rtol=1e-6)


def test_log_prob_pulls_towards_the_mode(linear):
    """Where the response hardly matters, the objective is log p(x), whose mode is 0."""
    x, y = np.array([[4.0, -4.0], [-3.0, 5.0]], "float32"), np.array([0, 1])
    np.testing.assert_allclose(attack.fgsm(linear, x, y, 0.3, generative_weight=1e4), x - 0.3 * np.sign(x), rtol=1e-6)


def test_pgd_reaches_the_corner_that_is_worst(linear):
    x, y = np.zeros((4, 2), "float32"), np.array([0, 1, 0, 1])
    found = attack.pgd(linear, x, y, epsilon=0.5, steps=10)
    corner = 0.5 * np.sign([3.0, -2.0]) * np.where(y == 0, 1, -1)[:, None]
    np.testing.assert_allclose(found, corner, atol=1e-6)


def test_attacks_make_the_response_less_likely_than_random_noise():
    x, y = blobs(400)
    model = tiny_model()
    model.fit(x, y, epochs=20, verbose=0)

    def nll(x):
        return -model.predict_distribution(x)[0].log_prob(y).numpy().mean()

    noise = 0.5 * np.sign(np.random.default_rng(0).normal(size=x.shape)).astype("float32")
    one, many = attack.fgsm(model, x, y, 0.5), attack.pgd(model, x, y, 0.5, steps=40)
    assert nll(many) > nll(x + noise) > nll(x) and nll(one) > nll(x + noise)
    np.testing.assert_allclose(nll(many), nll(one), rtol=0.02)  # so few inputs leave no room between the two
    assert np.abs(many - x).max() <= 0.5 + 1e-6
    likely = attack.pgd(model, x, y, 0.5, steps=40, generative_weight=5.0)
    assert model.log_prob(likely).mean() > model.log_prob(many).mean() + 0.1 and nll(likely) < nll(many)


def test_integers_stay_integers_within_their_levels():
    model = integer_model(levels=4)
    x = np.random.default_rng(0).integers(0, 4, (7, 4, 4, 1)).astype("uint8")
    found = attack.pgd(model, x, np.zeros(7, int), epsilon=1, steps=3, batch_size=3)
    assert found.dtype == x.dtype and found.max() <= 3
    assert 0 < np.abs(found.astype(int) - x).max() <= 1
    model.log_prob(found)
    with pytest.raises(ValueError, match="epsilon is 0.5; wanted a whole number"):
        attack.fgsm(model, x, np.zeros(7, int), epsilon=0.5)


def test_same_seed_gives_the_same_attack():
    (x, y), model = blobs(20), tiny_model()
    first, again, other = (attack.pgd(model, x, y, 0.2, steps=1, step_size=0.05, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0


def test_goes_through_an_encoder_and_keeps_bounds():
    encoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4, "tanh")])
    model = hy.HybridModel(
        hy.flow_distribution(hy.bijectors.RealNVP((4,), couplings=2)), hy.heads.Categorical(2), encoder=encoder
    )
    model.head.kernel.assign(np.random.default_rng(0).normal(size=model.head.kernel.shape))
    x, y = np.random.default_rng(0).uniform(size=(9, 2)).astype("float32"), np.zeros(9, int)
    found = attack.pgd(model, x, y, 0.5, bounds=(0, 1))
    assert found.min() >= 0 and found.max() <= 1 and np.abs(found - x).max() > 0.1
    nll = [-model.predict_distribution(rows)[0].log_prob(y).numpy().mean() for rows in (x, found)]
    assert nll[1] > nll[0]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(epsilon=0), "epsilon is 0; wanted a number above 0"),
        (dict(epsilon=float("nan")), "epsilon is nan"),
        (dict(epsilon="8"), "epsilon is '8'; wanted a finite number"),
        (dict(epsilon=None), "epsilon is None"),
        (dict(epsilon=float("inf")), "epsilon is inf"),
        (dict(epsilon=1, generative_weight="3"), "generative_weight is '3'"),
        (dict(epsilon=1, bounds=(0,)), r"bounds is \(0,\); wanted a pair"),
        (dict(epsilon=1, bounds=16), "bounds is 16; wanted a pair"),
        (dict(epsilon=1, bounds=(16, 0)), r"bounds\[1\] is 0; wanted a number above 16"),
        (dict(epsilon=1, steps=0), "steps is 0"),
        (dict(epsilon=1, step_size=-1), "step_size is -1"),
        (dict(epsilon=1, generative_weight=-1), "generative_weight is -1"),
        (dict(epsilon=1, bounds=(0.9, 1)), "bounds is .* but x has values"),
        (dict(epsilon=1, seed=-1), "seed is -1"),
        (dict(epsilon=1, batch_size=0), "batch_size is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    x, y = blobs(4)
    with pytest.raises(ValueError, match=message):
        attack.pgd(tiny_model(), x, y, **arguments)


@pytest.mark.parametrize("attacked", [attack.fgsm, attack.pgd])
def test_integers_do_not_wrap_around(attacked):
    """A flow without levels takes any number, but uint8 holds 0 .. 255 only."""
    model = tiny_model(event_shape=(4,))
    x = np.array([[0, 255, 7, 250], [255, 0, 0, 128]], "uint8")
    found = attacked(model, x, np.array([0, 1]), epsilon=8)
    assert found.dtype == np.uint8 and 0 < np.abs(found.astype(int) - x).max() <= 8
    of_bits = attacked(model, x > 100, np.array([0, 1]), epsilon=1)
    assert of_bits.dtype == bool


def test_bounds_beyond_the_levels_are_cut():
    model = integer_model(levels=4)
    x = np.random.default_rng(0).integers(0, 4, (5, 4, 4, 1)).astype("uint8")
    found = attack.pgd(model, x, np.zeros(5, int), epsilon=3, bounds=(-5, 300))
    assert np.isfinite(model.log_prob(found)).all()


def test_numbers_of_numpy_and_rows_that_overflow():
    (x, y), model = blobs(20), tiny_model()
    x[0] = 1e25
    for epsilon in (np.float64(0.1), np.int64(1), np.linspace(0.1, 1, 3)[0]):
        found = attack.pgd(
            model, x, y, epsilon, bounds=(np.float64(x.min()), np.float64(x.max())), generative_weight=0.1
        )
        assert np.isfinite(found).all() and np.abs(found[1:] - x[1:]).max() <= epsilon * (1 + 1e-5)
    with pytest.raises(ValueError, match="x is a DataFrame; wanted an array"):
        attack.fgsm(model, pd.DataFrame(x), y, 0.1)


def test_a_changed_encoder_is_refused():
    encoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(4)])
    flow = hy.bijectors.RealNVP((4,), couplings=2)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2), encoder=encoder)
    x, y = blobs(20)
    model.adapt(x)
    encoder.layers[-1].bias.assign([1.0] * 4)
    with pytest.raises(ValueError, match="encoder: the weights of .* have changed"):
        attack.fgsm(model, x, y, 0.1)


def test_models_without_a_head_and_wrong_labels_are_refused():
    x, y = blobs(4)
    with pytest.raises(ValueError, match="model is a DensityModel; wanted a HybridModel"):
        attack.fgsm(hy.DensityModel(hy.flow_distribution(hy.bijectors.RealNVP((2,)))), x, y, 1)
    with pytest.raises(ValueError, match="y has 3 rows but x has 4"):
        attack.fgsm(tiny_model(), x, y[:3], 1)
    with pytest.raises(ValueError, match="wanted"):
        attack.fgsm(tiny_model(), x, y + 5, 1)
