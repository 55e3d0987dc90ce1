import keras
import numpy as np
import pytest

import tfp_hybrid as hy
from tfp_hybrid.commands import predictions as predicting


def predictions(log_prob_x, **others):
    empty = dict(mean=np.zeros(0), stddev=None, entropy=None, nll=None, scores=np.zeros((0, 0)))
    return predicting.Predictions(log_prob_x=np.asarray(log_prob_x, float), **empty | others)


def test_ood_metrics_of_a_hand_made_example():
    """Scores -log p: inside 1 2 3 4, outside 2.5 5 6 7; of 16 pairs the outside one is higher in 14."""
    result = predicting.ood_metrics(predictions([-1, -2, -3, -4]), predictions([-2.5, -5, -6, -7]))
    assert result["auroc"] == pytest.approx(14 / 16)
    # 95 % of four outside inputs are all four: a threshold at 2.5, which 3 and 4 of the inside pass.
    assert result["fpr95"] == pytest.approx(2 / 4)
    assert result["nll"] is None and result["entropy"] is None


def test_densities_that_overflow_count_as_least_likely():
    result = predicting.ood_metrics(predictions([-1.0, -2.0]), predictions([-3.0, -np.inf]))
    assert result["auroc"] == 1.0 and result["fpr95"] == 0.0


@pytest.fixture(scope="module")
def classifier():
    keras.utils.set_random_seed(0)
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,), quantization_levels=4)
    return hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(3))


def test_classification_metrics_equal_their_definitions(classifier):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, (1200, 2)), rng.integers(0, 3, 1200)
    classifier.head.set_weights([rng.normal(size=(2, 3)), rng.normal(size=3)])
    answers = predicting.predict(classifier, x, y)
    metrics = predicting.test_metrics(classifier, answers, y)
    probabilities = classifier.predict(x, verbose=0)
    log_prob = np.asarray(classifier.distribution.log_prob(x))
    assert metrics["error"] == pytest.approx(np.mean(probabilities.argmax(-1) != y))
    assert metrics["nll"] == pytest.approx(-np.log(probabilities[np.arange(1200), y]).mean(), rel=1e-5)
    assert metrics["log_prob_x"] == pytest.approx(log_prob.mean(), rel=1e-5)
    assert metrics["bits_per_dim"] == pytest.approx(-log_prob.mean() / (2 * np.log(2)), rel=1e-5)
    entropy = -(probabilities * np.log(probabilities)).sum(-1)
    np.testing.assert_allclose(answers.entropy, entropy, rtol=1e-4)


def test_regression_metrics_equal_their_definitions():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 2)).astype("float32"), rng.normal(size=30).astype("float32")
    flow = hy.bijectors.RealNVP((2,), couplings=2, hidden_units=(8,))
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Normal())
    answers = predicting.predict(model, x, y)
    metrics = predicting.test_metrics(model, answers, y)
    # The untrained head predicts Normal(0, 1).
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(y**2)), rel=1e-5)
    assert metrics["nll"] == pytest.approx(np.mean(0.5 * y**2 + 0.5 * np.log(2 * np.pi)), rel=1e-5)
    assert "bits_per_dim" not in metrics
    np.testing.assert_allclose(answers.stddev, 1.0)


def test_accuracies_of_a_history_become_errors():
    history = {"loss": [2.0, 1.0], "accuracy": [0.25, 0.5], "val_accuracy": [0.5, 0.75], "val_nll": [3.0, 2.0]}
    found = predicting.with_errors(history)
    assert found == {"loss": [2.0, 1.0], "error": [0.75, 0.5], "val_error": [0.5, 0.25], "val_nll": [3.0, 2.0]}
