import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.uncertainty import regression

tfd = tfp.distributions
RNG = np.random.default_rng(0)
MEAN, STDDEV = RNG.normal(size=50), RNG.uniform(0.5, 2.0, 50)
Y = RNG.normal(MEAN, 1.5 * STDDEV)


def crps_by_integration(distribution, y):
    """Integral of (F(t) - [t >= y])^2: another definition than the one that the package uses."""
    below, _ = scipy.integrate.quad(lambda t: distribution.cdf(t) ** 2, -np.inf, y)
    above, _ = scipy.integrate.quad(lambda t: distribution.sf(t) ** 2, y, np.inf)
    return below + above


def test_metrics_of_a_normal_equal_scipys():
    p_y, truth = tfd.Normal(MEAN, STDDEV), scipy.stats.norm(MEAN, STDDEV)
    found = regression.regression_metrics(p_y, Y)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((Y - MEAN) ** 2)), abs=1e-9)
    assert found["nll"] == pytest.approx(-truth.logpdf(Y).mean(), abs=1e-9)
    expected = [crps_by_integration(scipy.stats.norm(m, s), y) for m, s, y in zip(MEAN, STDDEV, Y, strict=True)]
    assert found["crps"] == pytest.approx(np.mean(expected), abs=1e-6)
    np.testing.assert_allclose(regression.pit(p_y, Y), truth.cdf(Y), atol=1e-9)
    low, high = truth.interval(0.9)
    assert found["coverage90"] == np.mean((Y >= low) & (Y <= high))


def test_coverage_at_several_levels():
    levels = np.array([0.1, 0.5, 0.99])
    found = regression.interval_coverage(tfd.Normal(MEAN, STDDEV), Y, levels)
    for level, coverage in zip(levels, found, strict=True):
        low, high = scipy.stats.norm(MEAN, STDDEV).interval(level)
        assert coverage == np.mean((Y >= low) & (Y <= high))


def test_crps_of_a_mixture_of_normals_is_that_of_the_integral():
    weights, means, stddevs = (
        np.array([[0.2, 0.8], [0.5, 0.5]]),
        np.array([[0.0, 3.0], [-1.0, 1.0]]),
        np.array([[1.0, 0.5], [2.0, 0.1]]),
    )
    y = np.array([1.0, -0.5])
    p_y = tfd.MixtureSameFamily(tfd.Categorical(probs=weights), tfd.Normal(means, stddevs))

    class Mixture:
        def __init__(self, row):
            self.row = row

        def cdf(self, t):
            parts = [scipy.stats.norm.cdf(t, m, s) for m, s in zip(means[self.row], stddevs[self.row], strict=True)]
            return weights[self.row] @ np.array(parts)

        def sf(self, t):
            return 1 - self.cdf(t)

    expected = np.mean([crps_by_integration(Mixture(row), y[row]) for row in range(2)])
    assert regression.crps(p_y, y) == pytest.approx(expected, abs=1e-6)


@pytest.mark.integration
def test_crps_of_another_family_is_estimated_without_bias():
    shape, rate = np.float64(3.0), np.float64(2.0)
    y = np.array([0.2, 1.0, 4.0])
    truth = np.mean([crps_by_integration(scipy.stats.gamma(shape, scale=1 / rate), value) for value in y])
    p_y = tfd.Gamma(tf.fill([3], shape), tf.fill([3], rate))
    assert regression.crps(p_y, y, samples=200_000) == pytest.approx(truth, abs=0.005)
    few = [regression.crps(p_y, y, samples=2, seed=seed) for seed in range(500)]
    assert np.mean(few) == pytest.approx(truth, abs=4 * np.std(few) / np.sqrt(500))


def test_discrete_responses_count_their_steps():
    rate = np.array([1.0, 3.0, 10.0])
    y, truth = np.array([0, 5, 9]), scipy.stats.poisson(rate)
    p_y = tfd.Poisson(rate)
    values = np.stack([regression.pit(p_y, y, seed) for seed in range(200)])
    assert (values >= truth.cdf(y - 1) - 1e-6).all() and (values <= truth.cdf(y) + 1e-6).all()
    np.testing.assert_allclose(values.mean(0), (truth.cdf(y - 1) + truth.cdf(y)) / 2, atol=0.05)
    for level in (0.3, 0.8, 0.95):
        low, high = truth.interval(level)
        assert regression.interval_coverage(p_y, y, level) == np.mean((y >= low) & (y <= high))


def test_crps_of_counts_is_that_of_the_closed_form():
    rate, y = np.array([0.1, 3.0, 10.0, 400.0, 3.0]), np.array([0, 5, 9, 430, 200])
    truth = scipy.stats.poisson(rate)
    bessel = scipy.special.ive(0, 2 * rate) + scipy.special.ive(1, 2 * rate)  # times exp(-2 rate)
    expected = (y - rate) * (2 * truth.cdf(y) - 1) + 2 * rate * truth.pmf(y) - rate * bessel
    assert regression.crps(tfd.Poisson(rate), y) == pytest.approx(expected.mean(), abs=1e-4)
    assert regression.crps(tfd.Poisson(rate[:1]), [-3.0]) == pytest.approx(expected[0] + 3, abs=1e-6)


def test_crps_of_a_mixture_of_counts_and_of_very_wide_counts_are_those_of_draws():
    mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=[[0.3, 0.7]]), tfd.Poisson([[2.0, 30.0]]))
    for p_y, y in ((mixture, [12.0]), (tfd.NegativeBinomial([2.0], logits=[12.0]), [100_000.0])):
        drawn = np.asarray(p_y.sample((2, 200_000), seed=(0, 0)), float)[..., 0]
        expected = np.mean(np.abs(drawn[0] - y)) - np.mean(np.abs(drawn[0] - drawn[1])) / 2
        spread = np.std(np.abs(drawn[0] - y) - np.abs(drawn[0] - drawn[1]) / 2)
        few = 200_000 if p_y is mixture else 1000  # of which the estimate of the wide one is made
        assert regression.crps(p_y, y) == pytest.approx(expected, abs=4 * spread / np.sqrt(few))


def test_pit_of_draws_is_uniform():
    drawn = RNG.normal(MEAN, STDDEV)
    assert scipy.stats.kstest(regression.pit(tfd.Normal(MEAN, STDDEV), drawn), "uniform").pvalue > 0.01
    assert scipy.stats.kstest(regression.pit(tfd.Normal(MEAN, 0.2 * STDDEV), drawn), "uniform").pvalue < 0.01


def test_vector_responses_count_entry_by_entry():
    mean, stddev = MEAN.reshape(25, 2), STDDEV.reshape(25, 2)
    vector = tfd.Independent(tfd.Normal(mean, stddev), 1)
    flat, y = tfd.Normal(MEAN, STDDEV), Y.reshape(25, 2)
    for metric in (regression.rmse, regression.crps, regression.interval_coverage):
        assert metric(vector, y) == pytest.approx(metric(flat, Y), abs=1e-12)
    assert regression.nll(vector, y) == pytest.approx(2 * regression.nll(flat, Y), abs=1e-9)
    assert regression.pit(vector, y).shape == (25, 2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((MEAN, Y), "p_y is a ndarray"),
        ((tfd.Normal(MEAN, STDDEV), Y[:3]), "y has shape"),
        ((tfd.Normal(MEAN, STDDEV), np.full(50, np.nan)), "not finite"),
        ((tfd.Normal(MEAN, STDDEV), []), "empty"),
        (
            (tfd.MultivariateNormalDiag(np.zeros((3, 2))), np.zeros((3, 2))),
            "p_y is a MultivariateNormalDiag of vectors; wanted independent entries",
        ),
        ((tfd.Laplace(0.0, 1.0), Y), "y has shape"),
    ],
)
def test_wrong_arguments_are_explained(arguments, message):
    for metric in (regression.rmse, regression.nll, regression.crps, regression.pit, regression.interval_coverage):
        with pytest.raises(ValueError, match=message):
            metric(*arguments)


def test_wrong_options_are_explained():
    with pytest.raises(ValueError, match="level is 1.0; wanted above 0 and below 1"):
        regression.interval_coverage(tfd.Normal(MEAN, STDDEV), Y, 1.0)
    with pytest.raises(ValueError, match="samples is 1"):
        regression.crps(tfd.Laplace(MEAN, STDDEV), Y, samples=1)
