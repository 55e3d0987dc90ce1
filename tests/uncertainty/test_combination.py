"""Several scores as one, by their p-values."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from helpers import blobs, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty

LOOKS = [uncertainty.LatentNorm(), uncertainty.PredictiveEntropy(), uncertainty.NegativeLogProb()]
X, Y = blobs(400)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def p_values(model, reference, x):
    """By counting; only for scores that are not beyond the 95 % quantile of the reference."""
    found, inside = [], np.ones(len(x), bool)
    for score in LOOKS:
        of_reference, of_x = score.score(model, reference), score.score(model, x)
        found.append((1 + (of_reference[None] >= of_x[:, None]).sum(1)) / (len(reference) + 1))
        inside &= of_x <= np.quantile(of_reference, 0.95)
    return np.stack(found, -1), inside


@pytest.mark.parametrize("method", ["simes", "fisher"])
def test_p_values_are_combined_as_scipy_does(method, model):
    score = uncertainty.combine(LOOKS, method).fit(model, X[:200])
    values, (p, inside) = score.score(model, X[200:]), p_values(model, X[:200], X[200:])
    assert inside.sum() > 100
    if method == "fisher":
        expected = [scipy.stats.combine_pvalues(row, "fisher").statistic / 2 for row in p]
    else:  # the least of the p-values that Benjamini and Hochberg adjust, which is Simes'
        expected = -np.log([scipy.stats.false_discovery_control(row).min() for row in p])
    np.testing.assert_allclose(values[inside], np.asarray(expected)[inside], rtol=1e-4, atol=1e-5)


def test_the_tail_goes_on(model):
    """Beyond the reference, p-values fall exponentially, without end, so that far inputs are still told apart."""
    score = uncertainty.combine([uncertainty.LatentNorm()]).fit(model, X[:200])
    far = np.outer([5, 10, 20, 40], [1.0, 1.0]).astype("float32")
    values, norms = score.score(model, far), uncertainty.LatentNorm().score(model, far)
    reference = uncertainty.LatentNorm().score(model, X[:200])
    end = np.quantile(reference, 0.95)
    expected = -np.log(0.05) + (norms - end) / (reference[reference > end] - end).mean()
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    assert (np.diff(values) > 0).all()
    overflowing = np.full((1, 2), 3e38, "float32")
    assert uncertainty.combine([uncertainty.NegativeLogProb()]).fit(model, X).score(model, overflowing) == np.inf


def test_its_false_alarm_rate_is_known():
    """Inputs of the model itself: a combined p-value is at most alpha no more often than alpha says, and not never."""
    model = tiny_model(event_shape=(4,))
    x = model.distribution.sample(6000, seed=(1, 2)).numpy()
    score = uncertainty.default_score(model).fit(model, x[:3000])
    alarms = score.score(model, x[3000:]) >= -np.log([[0.05], [0.01]])
    assert 0.01 < alarms[0].mean() < 0.065 and 0.001 < alarms[1].mean() < 0.018


def test_it_sees_what_one_of_its_scores_sees(model):
    score = uncertainty.default_score(model).fit(model, X)
    looks = [type(look).__name__ for look in score.scores]
    assert looks == ["DensityOfStates", "KNearest", "DensityOfStates", "Energy"]
    assert (score.score(model, 8 + X[:50]) > np.quantile(score.score(model, X), 0.98)).all()


def test_the_default_compares_features_before_and_after_the_flow():
    encoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    p_h = hy.flow_distribution(hy.bijectors.RealNVP((3,), couplings=2))
    model = hy.HybridModel(p_h, hy.heads.Categorical(2), encoder=encoder)
    score = uncertainty.default_score(model).fit(model, X)
    titles = [look.title for look in score.scores]
    assert titles == ["-log p(x)", "neighbour 5 of z / ||z||", "neighbour 5 of x / ||x||", "energy"]
    assert np.isfinite(score.score(model, X[:9])).all()
    density = uncertainty.default_score(hy.DensityModel(p_h, encoder=encoder))
    assert [look.title for look in density.scores] == titles[:3]


def test_the_default_fits_other_models():
    regression = tiny_model(hy.heads.Normal())
    assert len(uncertainty.default_score(regression).scores) == 2
    density = hy.DensityModel(regression.distribution)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(50)
    of_batches = uncertainty.default_score(density).fit(density, data).score(density, X)
    of_rows = uncertainty.default_score(density).fit(density, X).score(density, X)
    np.testing.assert_allclose(of_batches, of_rows, rtol=1e-3, atol=0.02)  # rounding may move a rank by one


def test_a_rejector_fits_it_to_half_of_the_rows(model):
    rejector = uncertainty.Rejector(model).fit_threshold(X, quantile=0.9)
    assert rejector.score.is_fitted and len(rejector.reference) == 200
    assert rejector.predict(X[1::2], verbose=0)["abstain"].sum() == 20
    risk = uncertainty.Rejector(model).fit_threshold(X, Y, risk=0.3)
    assert len(risk.reference) == 200


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m: uncertainty.combine([]), "Combined got the scores ..; wanted at least one `Score`"),
        (lambda m: uncertainty.combine(LOOKS, "stouffer"), "`method` is 'stouffer'; wanted one of simes, fisher"),
        (lambda m: uncertainty.combine(LOOKS).fit(m, X[:10]), "x has 10 inputs of finite scores"),
        (lambda m: uncertainty.combine(LOOKS).score(m, X), "Combined is not fitted"),
    ],
)
def test_wrong_use_is_explained(call, message, model):
    with pytest.raises(ValueError, match=message):
        call(model)
