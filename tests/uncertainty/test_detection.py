import itertools

import numpy as np
import pytest
import sklearn.metrics

from tfp_hybrid.uncertainty import detection

INF = np.inf
CASES = {
    "apart": ([1.0, 2, 3], [4.0, 5]),
    "mixed": ([1.0, 2, 3, 4], [2.5, 5, 6, 7]),
    "ties": ([1.0, 2, 2, 3], [2.0, 2, 3, 4]),
    "infinite": ([-INF, 0, 1, INF], [0.5, INF, INF, -INF]),
    "all equal": ([1.0, 1], [1.0, 1, 1]),
    "one each": ([1.0], [0.0]),
    "random": (np.random.default_rng(0).normal(size=300), np.random.default_rng(1).normal(0.7, 1, 200)),
    "rounded": (np.random.default_rng(2).integers(0, 9, 300), np.random.default_rng(3).integers(3, 12, 100)),
}


def rates(inside, outside):
    """False and true positive rates at every threshold, by counting."""
    thresholds = np.unique(np.r_[inside, outside, -INF])
    flagged = [(np.mean(inside >= t), np.mean(outside >= t)) for t in thresholds]
    return np.array(flagged + [(0.0, 0.0)])


@pytest.fixture(params=CASES)
def case(request):
    return tuple(np.asarray(values, float) for values in CASES[request.param])


def test_auroc_counts_pairs(case):
    inside, outside = case
    wins = [float(o > i) + 0.5 * float(o == i) for i, o in itertools.product(inside, outside)]
    assert detection.auroc(inside, outside) == pytest.approx(np.mean(wins), abs=1e-12)


def test_fpr_and_detection_error_are_those_of_the_best_threshold(case):
    false, true = rates(*case).T
    for wanted in (0.5, 0.95, 1.0):
        expected = false[true >= wanted - 1e-12].min()
        assert detection.fpr_at_tpr(*case, tpr=wanted) == pytest.approx(expected, abs=1e-12)
    assert detection.detection_error(*case) == pytest.approx(((false + 1 - true) / 2).min(), abs=1e-12)


def test_average_precisions_are_sums_over_thresholds(case):
    """AP = sum over thresholds of precision * increase of recall, for each side as the positive one."""
    inside, outside = case
    for function, positive, negative in (
        (detection.aupr_out, outside, inside),
        (detection.aupr_in, -inside, -outside),
    ):
        total, before = 0.0, 0.0
        for threshold in np.unique(np.r_[positive, negative])[::-1]:
            hits, misses = np.sum(positive >= threshold), np.sum(negative >= threshold)
            total += (hits / len(positive) - before) * hits / (hits + misses)
            before = hits / len(positive)
        assert function(inside, outside) == pytest.approx(total, abs=1e-12)


def test_finite_scores_are_as_in_scikit_learn():
    inside, outside = map(np.asarray, CASES["random"])
    y, scores = np.r_[np.zeros(300), np.ones(200)], np.r_[inside, outside]
    assert detection.auroc(inside, outside) == pytest.approx(sklearn.metrics.roc_auc_score(y, scores), abs=1e-12)
    expected = sklearn.metrics.average_precision_score(y, scores)
    assert detection.aupr_out(inside, outside) == pytest.approx(expected, abs=1e-12)


def test_all_metrics_at_once():
    found = detection.detection_metrics(*CASES["mixed"])
    assert found == {name: metric(*CASES["mixed"]) for name, metric in detection.METRICS.items()}
    assert found["auroc"] == pytest.approx(14 / 16) and found["fpr95"] == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    "inside, outside, message",
    [
        ([], [1.0], "inside is empty"),
        ([1.0], [], "outside is empty"),
        ([1.0, np.nan], [1.0], "inside holds NaN at index 1"),
        ([1.0], [[1.0]], "outside has shape"),
    ],
)
def test_scores_that_cannot_be_used_are_explained(inside, outside, message):
    for metric in detection.METRICS.values():
        with pytest.raises(ValueError, match=message):
            metric(inside, outside)


def test_a_rate_out_of_range_is_explained():
    with pytest.raises(ValueError, match="tpr is 0; wanted a rate above 0"):
        detection.fpr_at_tpr([0.0], [1.0], tpr=0)
