"""The proportional odds model, against its formula, logistic regression and draws of a posterior."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfp_hybrid as hy
from tfp_hybrid import bayes, heads
from tfp_hybrid.heads.decomposition import of_latents
from tfp_hybrid.uncertainty import Energy, calibrate

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 2)).astype("float32")
GRADES = np.searchsorted([-1.0, 0.5, 1.5], 2 * X[:, 0] + RNG.logistic(size=400)).astype("int32")  # 0 .. 3


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


def built(head, size=2):
    head.build((None, size))
    head.built = True
    head.kernel.assign(RNG.normal(size=head.kernel.shape))
    return head


def model_of(head, **options):
    p_x = hy.flow_distribution(hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,)))
    model = hy.HybridModel(p_x, head, generative_weight=0.1, **options)
    model.compile(keras.optimizers.Adam(1e-2))
    return model


def test_probabilities_are_those_of_the_formula():
    head = built(heads.Ordinal(4))
    head.raw_steps.assign([0.3, -1.0])
    eta = X @ head.kernel.numpy() + head.bias.numpy()
    steps = np.logaddexp(0, [0.3, -1.0])
    np.testing.assert_allclose(head.cutpoints, [0, steps[0], steps.sum()], rtol=1e-6)
    below = np.concatenate([np.zeros((400, 1)), sigmoid(head.cutpoints.numpy() - eta), np.ones((400, 1))], 1)
    p_y = head(tf.constant(X))
    np.testing.assert_allclose(head.mean(p_y), np.diff(below), atol=1e-6)
    rows = np.arange(400)
    np.testing.assert_allclose(p_y.log_prob(GRADES), np.log(np.diff(below)[rows, GRADES]), atol=1e-4)


def test_it_starts_without_a_preference_for_either_end():
    head = heads.Ordinal(5)
    head.build((None, 2))
    probs = head.mean(head.at_point(tf.zeros((1, 2))))[0].numpy()
    np.testing.assert_allclose(probs, probs[::-1], atol=1e-6)
    assert probs.min() > 0.1


def test_two_classes_are_logistic_regression():
    head, other = built(heads.Ordinal(2)), built(heads.Bernoulli())
    other.kernel.assign(head.kernel), other.bias.assign(head.bias)
    y = (GRADES > 1).astype("int32")
    np.testing.assert_allclose(head(X).log_prob(y), other(X).log_prob(y), atol=1e-5)


def test_a_model_learns_it_saves_it_and_goes_on(tmp_path):
    model = model_of(heads.Ordinal(4))
    before = [weight.numpy() for weight in model.head.trainable_variables]
    model.fit(X, GRADES, epochs=20, verbose=0)
    for weight, old in zip(model.head.trainable_variables, before, strict=True):
        assert (weight.numpy() != old).all(), weight.path
    assert len(before) == 3
    assert model.evaluate(X, GRADES, verbose=0, return_dict=True)["accuracy"] > 0.5
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6)
    loaded.fit(X, GRADES, epochs=1, verbose=0)


def test_a_posterior_averages_over_the_linear_predictor():
    model = model_of(heads.Ordinal(4))
    model.fit(X[:40], GRADES[:40], epochs=2, verbose=0)
    bayes.fit(model, X[:40], GRADES[:40])
    z = tf.concat([batch.features for batch in model.encode_batches(X)], 0)
    found = model.predict(X[:5], verbose=0)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    posterior = model.head.posterior
    mean, factor = posterior.linear_predictor(z[:5]).numpy(), posterior.predictor_factor(z[:5]).numpy()
    drawn = mean + np.einsum("nuv,sv->snu", factor, RNG.normal(size=(50_000, factor.shape[-1])))
    probs = model.head.distribution(tf.constant(drawn[..., 0], tf.float32)).probs_parameter().numpy().mean(0)
    np.testing.assert_allclose(found, probs, atol=0.01)


def test_a_temperature_divides_predictor_and_cutpoints():
    model = model_of(heads.Ordinal(4))
    model.fit(X, GRADES, epochs=20, verbose=0)
    best = -model.predict_distribution(X)[0].log_prob(GRADES).numpy().mean()
    eta = [weight.numpy() for weight in (model.head.kernel, model.head.bias, model.head.cutpoints)]
    model.head.widen(0.25)
    for weight, old in zip((model.head.kernel, model.head.bias, model.head.cutpoints), eta, strict=True):
        np.testing.assert_allclose(weight, 4 * old, rtol=1e-5)
    factor = calibrate(model, X, GRADES)
    assert 2 < factor < 8
    assert -model.predict_distribution(X)[0].log_prob(GRADES).numpy().mean() <= best + 1e-4


def test_entropy_decomposes_and_energy_is_refused():
    model = model_of(heads.Ordinal(4))
    found = of_latents([(model.head, tf.constant(X))])
    probs = model.head.mean(model.head(X)).numpy()
    np.testing.assert_allclose(found.total, -(probs * np.log(probs)).sum(1), atol=1e-5)
    with pytest.raises(ValueError, match="Energy: the head is Ordinal"):
        Energy().score(model, X)


def test_sharpened_targets_of_consistency_are_powers_of_the_probabilities():
    jitter = keras.layers.GaussianNoise(1e-12)
    model = model_of(
        heads.Ordinal(4), missing_label=-1, penalties=[hy.penalties.Consistency(jitter, temperature=0.5, weight=1.0)]
    )
    model.fit(X, np.where(np.arange(400) < 200, GRADES, -1), epochs=1, verbose=0)
    batch_rows = tf.constant(X[:8])
    features = model._training_features(batch_rows)
    probs = model.head.mean(model.head.at_point(features)).numpy()
    q = probs**2 / (probs**2).sum(1, keepdims=True)
    batch = hy.penalties.base.Batch(
        batch_rows, features, tf.zeros(8, tf.int32), tf.zeros(8, bool), model.head, model._training_features
    )
    expected = (q * np.log(q / probs)).sum(1)
    np.testing.assert_allclose(model.penalties[0].rows(batch), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: heads.Ordinal(1), "Ordinal: `num_classes` is 1"),
        (lambda: heads.Ordinal(3, event_shape=2), "Ordinal: `event_shape` is 2"),
        (lambda: heads.Ordinal(3).check_labels(np.array([0, 3])), "y has labels from 0 to 3"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
