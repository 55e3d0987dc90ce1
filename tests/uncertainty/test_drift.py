import numpy as np
import pytest
import scipy.stats
import sklearn.ensemble
import sklearn.model_selection
from typer.testing import CliRunner

import tfp_hybrid as hy
from tfp_hybrid.cli import app
from tfp_hybrid.uncertainty import NegativeLogProb, drift

REFERENCE = np.random.default_rng(0).gamma(4.0, 20.0, 2000)
TESTS = [drift.ks_test, drift.typicality_test]


def test_ks_equals_scipys():
    new = np.random.default_rng(1).gamma(4.0, 22.0, 300)
    expected = scipy.stats.ks_2samp(REFERENCE, new)
    found = drift.ks_test(REFERENCE, new)
    assert found.statistic == pytest.approx(expected.statistic) and found.p_value == pytest.approx(expected.pvalue)
    greater = (new[:, None] > REFERENCE).mean() - (new[:, None] < REFERENCE).mean()
    assert found.effect_size == pytest.approx(greater)


def test_typicality_measures_the_shift_of_the_mean():
    new = REFERENCE[:500] + 5.0
    found = drift.typicality_test(REFERENCE, new)
    shift = new.mean() - REFERENCE.mean()
    assert found.statistic == pytest.approx(abs(shift))
    assert found.effect_size == pytest.approx(shift / REFERENCE.std())


def test_typicalitys_p_value_is_near_the_normal_approximation():
    """Means of 300 and 2000 rows are nearly normal: two-sided p of the z-value."""
    for step in (0.5, 1.0, 1.5, 2.0):
        error = REFERENCE.std() * np.sqrt(1 / 300 + 1 / 2000)
        new = np.random.default_rng(2).permutation(REFERENCE)[:300]
        new += REFERENCE.mean() - new.mean() + step * error
        found = drift.typicality_test(REFERENCE, new, resamples=4000)
        assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(step), abs=0.03)


@pytest.mark.nightly
@pytest.mark.parametrize("test", TESTS)
def test_the_false_alarm_rate_is_kept(test):
    """1,000 references and batches from one distribution: 5 % of them are called drift."""
    rng = np.random.default_rng(3)
    options = {} if test is drift.ks_test else {"resamples": 200}
    alarms = [test(rng.gamma(4.0, 20.0, 500), rng.gamma(4.0, 20.0, 100), **options).drifted(0.05) for _ in range(1000)]
    assert 0.035 <= np.mean(alarms) <= 0.065


@pytest.mark.parametrize("test", TESTS)
def test_a_shift_is_found(test):
    found = test(REFERENCE, np.random.default_rng(4).gamma(5.0, 20.0, 500))
    assert found.drifted(0.001) and found.effect_size > 0.2


def test_typicality_finds_too_likely_inputs():
    """A batch of higher density than usual is as untypical as one of lower density."""
    found = drift.typicality_test(REFERENCE, np.full(100, REFERENCE.min()))
    assert found.drifted(0.01) and found.effect_size < -1


@pytest.mark.parametrize("test", TESTS)
def test_infinite_scores_are_drift(test):
    new = np.r_[REFERENCE[:50], np.full(50, np.inf)]
    assert test(REFERENCE, new).drifted(0.001)


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    "reference, new, message",
    [
        ([], [1.0], "reference is empty"),
        ([1.0], [], "new is empty"),
        ([1.0], [np.nan], "new holds NaN"),
        ([[1.0]], [1.0], "reference has shape"),
    ],
)
def test_wrong_arguments_are_explained(test, reference, new, message):
    with pytest.raises(ValueError, match=message):
        test(reference, new)


def test_more_wrong_arguments_are_explained():
    with pytest.raises(ValueError, match="resamples is 0"):
        drift.typicality_test([1.0], [1.0], resamples=0)
    with pytest.raises(ValueError, match="reference holds 1 infinite"):
        drift.typicality_test([0.0, np.inf], [0.0])


def test_a_few_infinite_scores_do_not_hide():
    found = drift.typicality_test(REFERENCE, np.r_[np.full(200, REFERENCE.mean()), 3 * [np.inf], -np.inf])
    assert found.drifted(0.01) and found.statistic == np.inf == found.effect_size


@pytest.mark.parametrize("constant", [0.1, 7.7, -1e12])
def test_constants_are_compared_without_their_rounding(constant):
    reference = np.full(1000, constant)
    same, other = (drift.typicality_test(reference, factor * reference[:7], resamples=20) for factor in (1.0, 2.0))
    assert same.effect_size == 0 and not same.drifted()
    assert abs(other.effect_size) == np.inf and other.drifted()


def test_equal_constants_are_no_drift():
    assert not drift.typicality_test([1.0, 1.0], [1.0]).drifted()
    assert drift.typicality_test([1.0, 1.0], [1.0]).effect_size == 0


def test_another_population_of_the_same_densities_passes():
    """Standard normal inputs; and others, each rotated onto the positive first axis, where it is just as likely."""
    rng = np.random.default_rng(0)
    reference, others = rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2))
    new = np.stack([np.linalg.norm(others, axis=1), 0 * others[:, 0]], 1)
    model = hy.HybridModel(hy.flow_distribution(hy.bijectors.ActNorm((2,))), hy.heads.Normal())
    scores = [NegativeLogProb().score(model, x.astype("float32")) for x in (reference, new, others)]
    np.testing.assert_allclose(scores[0], 0.5 * np.sum(reference**2, 1) + np.log(2 * np.pi), rtol=1e-5)
    np.testing.assert_allclose(scores[1], scores[2], rtol=1e-5)
    assert not any(test(*scores[:2]).drifted() for test in TESTS)
    classifier = sklearn.ensemble.HistGradientBoostingClassifier(max_iter=20)
    labels = np.repeat([0, 1], 2000)
    auc = sklearn.model_selection.cross_val_score(classifier, np.r_[reference, new], labels, scoring="roc_auc")
    assert auc.min() > 0.99


def test_what_the_tests_cannot_see_is_said():
    assert "see scores, not inputs" in drift.__doc__ and "scores only" in drift.BLIND_SPOT
    printed = " ".join(CliRunner().invoke(app, ["drift", "--help"]).output.split())
    assert "Another population with the same scores is not detected" in printed
