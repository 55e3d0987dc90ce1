import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics

from tfp_hybrid.uncertainty import classification

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet([0.5, 0.5, 0.5, 0.5], size=1000)
Y = np.array([RNG.choice(4, p=0.7 * p + 0.3 / 4) for p in PROBABILITIES])


def naive_calibration_errors(probabilities, y, edges):
    """ECE and MCE bin by bin, bins (low, high], as in Guo et al. 2017."""
    confidence, correct = probabilities.max(-1), probabilities.argmax(-1) == y
    gaps, weights = [], []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gaps.append(abs(correct[inside].mean() - confidence[inside].mean()))
            weights.append(inside.mean())
    return np.dot(gaps, weights), max(gaps)


def test_metrics_equal_scikit_learn():
    assert classification.accuracy(PROBABILITIES, Y) == sklearn.metrics.accuracy_score(Y, PROBABILITIES.argmax(-1))
    assert classification.nll(PROBABILITIES, Y) == pytest.approx(sklearn.metrics.log_loss(Y, PROBABILITIES), abs=1e-9)
    each_class = [sklearn.metrics.brier_score_loss(Y == k, PROBABILITIES[:, k]) for k in range(4)]
    assert classification.brier(PROBABILITIES, Y) == pytest.approx(sum(each_class), abs=1e-12)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_calibration_errors_equal_their_definition(bins):
    ece, mce = naive_calibration_errors(PROBABILITIES, Y, np.linspace(0, 1, bins + 1))
    assert classification.expected_calibration_error(PROBABILITIES, Y, bins) == pytest.approx(ece, abs=1e-12)
    assert classification.maximum_calibration_error(PROBABILITIES, Y, bins) == pytest.approx(mce, abs=1e-12)
    edges = np.quantile(PROBABILITIES.max(-1), np.linspace(0, 1, bins + 1))
    edges[0] = 0
    ece, _ = naive_calibration_errors(PROBABILITIES, Y, edges)
    assert classification.expected_calibration_error(PROBABILITIES, Y, bins, "mass") == pytest.approx(ece, abs=1e-12)


@pytest.mark.parametrize("strategy, theirs", [("width", "uniform"), ("mass", "quantile")])
def test_the_reliability_diagram_is_scikit_learns(strategy, theirs):
    curve = classification.reliability(PROBABILITIES, Y, 10, strategy)
    confidence, correct = PROBABILITIES.max(-1), PROBABILITIES.argmax(-1) == Y
    expected = sklearn.calibration.calibration_curve(correct, confidence, n_bins=10, strategy=theirs)
    np.testing.assert_allclose(curve.accuracy, expected[0], atol=1e-12)
    np.testing.assert_allclose(curve.confidence, expected[1], atol=1e-12)
    assert curve.count.sum() == 1000


def test_a_hand_made_example():
    """Four rows in two bins: confidence 0.6 with half right, 0.9 with all right."""
    probabilities = [[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.1, 0.9]]
    y = np.array([0, 1, 0, 1])
    found = classification.classification_metrics(probabilities, y)
    assert found["accuracy"] == 0.75
    assert found["brier"] == pytest.approx((0.32 + 0.72 + 0.02 + 0.02) / 4)
    assert found["ece"] == pytest.approx((0.1 + 0.1) / 2) and found["mce"] == pytest.approx(0.1)
    assert found["nll"] == pytest.approx(-(np.log(0.6) + np.log(0.4) + 2 * np.log(0.9)) / 4)


def test_equal_confidences_stay_together():
    probabilities = np.array([[0.8, 0.2]] * 10)
    y = np.array([0] * 8 + [1] * 2)
    for strategy in classification.STRATEGIES:
        curve = classification.reliability(probabilities, y, 5, strategy)
        assert curve.count.tolist() == [10] and curve.gap == pytest.approx([0.0])


def test_votes_on_the_edges_of_bins_are_the_same_in_any_precision():
    votes = RNG.multinomial(10, np.ones(3) / 3, 400) / 10
    y = RNG.integers(0, 3, 400)
    for bins in (5, 10):
        wanted, _ = naive_calibration_errors(np.round(votes, 1), y, np.round(np.linspace(0, 1, bins + 1), 1))
        for dtype in ("float32", "float64"):
            found = classification.expected_calibration_error(votes.astype(dtype), y, bins)
            assert found == pytest.approx(wanted, abs=1e-6)


def test_a_label_of_probability_zero_has_infinite_nll():
    assert classification.nll([[1.0, 0.0], [0.5, 0.5]], np.array([1, 0])) == np.inf


@pytest.mark.parametrize(
    "probabilities, y, message",
    [
        (np.ones((2, 2)), [0, 1], "sum to 1"),
        ([[np.nan, 1.0]], [0], "sum to 1"),
        ([[1.5, -0.5]], [0], "sum to 1"),
        ([0.5, 0.5], [0, 1], "wanted .n, K."),
        ([[0.5, 0.5]], [2], "wanted integers 0 .. 1"),
        ([[0.5, 0.5]], [0.5], "wanted integers 0 .. 1"),
        ([[0.5, 0.5]], [0, 1], "y has shape"),
        (np.ones((0, 2)), np.ones(0, int), "at least one row"),
    ],
)
def test_wrong_arguments_are_explained(probabilities, y, message):
    for metric in (classification.accuracy, classification.nll, classification.brier, classification.reliability):
        with pytest.raises(ValueError, match=message):
            metric(probabilities, np.asarray(y))


def test_wrong_bins_are_explained():
    with pytest.raises(ValueError, match="strategy is 'equal'"):
        classification.reliability(PROBABILITIES, Y, strategy="equal")
    with pytest.raises(ValueError, match="bins is 0"):
        classification.reliability(PROBABILITIES, Y, bins=0)
