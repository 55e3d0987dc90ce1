import itertools

import numpy as np
import pytest

from tfp_hybrid.uncertainty import aurc, e_aurc, risk_coverage_curve


def naive_risks(scores, losses):
    """Mean loss of the k most trusted, over all orders of equal scores."""
    orders = [
        o for o in itertools.permutations(range(len(scores))) if (np.diff(np.asarray(scores)[list(o)]) >= 0).all()
    ]
    kept = np.arange(1, len(scores) + 1)
    return np.mean([np.cumsum(np.asarray(losses)[list(order)]) / kept for order in orders], axis=0)


@pytest.mark.parametrize(
    "scores, losses",
    [
        ([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]),
        ([0.4, 0.2, 0.3, 0.1], [0, 1, 0, 1]),
        ([1, 1, 1, 1], [0, 1, 0, 1]),
        ([1, 1, 2, 2, 0], [0.5, 0.1, 3.0, 0.0, 1.0]),
        ([0], [1]),
    ],
)
def test_curve_equals_the_definition(scores, losses):
    curve = risk_coverage_curve(scores, losses)
    np.testing.assert_allclose(curve.risk, naive_risks(scores, losses), atol=1e-12)
    np.testing.assert_allclose(curve.coverage, np.arange(1, len(scores) + 1) / len(scores))
    assert curve.aurc == aurc(scores, losses) == pytest.approx(naive_risks(scores, losses).mean())


def test_the_best_score_has_no_excess():
    losses = np.random.default_rng(0).integers(0, 2, 200).astype(float)
    assert e_aurc(losses, losses) == 0
    assert e_aurc(np.arange(200), losses) > 0
    assert aurc(np.zeros(200), losses) == pytest.approx(losses.mean())  # a score that says nothing


def test_infinite_scores_are_rejected_first():
    curve = risk_coverage_curve([np.inf, 1.0, -np.inf], [1, 0, 0])
    np.testing.assert_allclose(curve.risk, [0, 0, 1 / 3])


@pytest.mark.parametrize(
    "scores, losses, message",
    [
        ([], [], "scores is empty"),
        ([1.0], [1.0, 0.0], "losses has 2 rows but scores has 1; they must match"),
        ([np.nan], [1.0], "scores holds NaN"),
        ([1.0], [np.inf], "wanted finite numbers >= 0"),
        ([1.0], [-1.0], "wanted finite numbers >= 0"),
    ],
)
def test_wrong_arguments_are_explained(scores, losses, message):
    with pytest.raises(ValueError, match=message):
        risk_coverage_curve(scores, losses)
