"""Intervals by held-out rows hold new responses as often as they say, of models that are wrong."""

import numpy as np
import pytest
import scipy.stats
from helpers import blobs, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty

RNG = np.random.default_rng(0)


def overconfident(head=None, **options):
    """A model whose predictions have nothing to do with the responses."""
    return tiny_model(hy.heads.Normal() if head is None else head, compile=False, **options)


def rows(count, counts=False):
    x = RNG.normal(size=(count, 2)).astype("float32")
    mean = 2 + np.sin(2 * x[:, 0])
    return x, RNG.poisson(3 * mean) if counts else (mean + RNG.standard_t(3, count)).astype("float32")


HEADS = {
    "normal": (hy.heads.Normal, False),
    "mixture": (hy.heads.NormalMixture, False),
    "poisson": (lambda: hy.heads.ExponentialFamily("Poisson"), True),
    "zero inflated": (hy.heads.ZeroInflated, True),
}


@pytest.mark.parametrize("name", HEADS)
def test_new_responses_are_in_as_often_as_asked_for(name):
    """Over 200 draws of 59 held-out rows: the mean of the coverage is k / (n + 1), of counts at least that."""
    make, counts = HEADS[name]
    model = overconfident(make())
    x, y = rows(4000, counts)
    scores = uncertainty.conformal_scores(model, x, y)
    for level in (0.5, 0.9):
        rank = int(np.ceil(60 * level))
        inside = [np.mean(scores <= np.sort(RNG.choice(scores, 59, replace=False))[rank - 1]) for _ in range(200)]
        exact, error = rank / 60, 4 * np.std(inside) / np.sqrt(200)
        assert np.mean(inside) >= exact - error - 0.005 and (counts or np.mean(inside) <= exact + error + 0.005)
        held_out = RNG.choice(len(x), 59, replace=False)
        low, high = uncertainty.conformal_interval(model, x, scores[held_out], level)
        s = np.sort(scores[held_out])[rank - 1]
        agrees = ((low <= y) & (y <= high)) == (scores <= s)
        assert agrees[np.abs(scores - s) > 1e-5].all()  # but for rounding


def test_a_right_model_keeps_its_intervals():
    model = overconfident()
    x = rows(5000)[0]
    y = model.predict_distribution(x)[0].sample(seed=(0, 1)).numpy()
    scores = uncertainty.conformal_scores(model, x, y)
    assert scipy.stats.kstest(2 * scores, "uniform").pvalue > 0.01
    found, own = uncertainty.conformal_interval(model, x, scores, 0.9), model.predict_interval(x, 0.9)
    np.testing.assert_allclose(found, own, atol=0.1)


def test_rows_without_a_response_are_left_out():
    x, y = rows(40)
    hidden = np.where(np.arange(40) < 25, y, np.nan)
    model = overconfident(missing_label=np.nan)
    found = uncertainty.conformal_scores(model, x, hidden)
    np.testing.assert_array_equal(found, uncertainty.conformal_scores(overconfident(), x[:25], y[:25]))


def test_an_interval_may_have_no_end():
    model = overconfident()
    x, _ = rows(5)
    low, high = uncertainty.conformal_interval(model, x, np.full(9, 0.5), 0.9)
    assert np.isneginf(low).all() and np.isposinf(high).all() and low.shape == (5,)
    far = uncertainty.conformal_scores(model, np.full((1, 2), 1e30, "float32"), [0.0])
    assert far == 0.5


@pytest.mark.parametrize(
    ("scores", "level", "message"),
    [
        (np.zeros(8), 0.9, "scores has 8 rows; wanted at least 9 for `level` = 0.9"),
        (np.zeros((8, 2)), 0.5, r"scores has shape \(8, 2\)"),
        (np.ones(8), 0.5, "wanted the .* numbers of `conformal_scores`"),
        (np.zeros(8), 1.0, "level is 1.0"),
    ],
)
def test_wrong_scores_and_levels(scores, level, message):
    with pytest.raises(ValueError, match=message):
        uncertainty.conformal_interval(overconfident(), rows(3)[0], scores, level)


def test_heads_that_have_no_intervals():
    x, y = blobs(10)
    for head, message in ((hy.heads.Categorical(2), "Categorical, of classes"), (hy.heads.Normal(2), "of vectors")):
        with pytest.raises(ValueError, match=message):
            uncertainty.conformal_scores(tiny_model(head), x, y)
