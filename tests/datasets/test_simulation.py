import numpy as np
import pytest
import scipy.stats

from tfp_hybrid.datasets import simulate, simulation, true_log_prob, true_mean, true_stddev


def test_inputs_follow_the_stated_mixture():
    x, _ = simulate(20_000, seed=1)
    left, right = scipy.stats.norm(-2.5, 0.7), scipy.stats.norm(2.5, 0.7)
    result = scipy.stats.kstest(x[:, 0], lambda t: 0.5 * (left.cdf(t) + right.cdf(t)))
    assert result.pvalue > 1e-3


def test_targets_are_standard_normal_after_the_stated_mean_and_stddev():
    x, y = simulate(20_000, seed=2)
    noise = (y - true_mean(x[:, 0])) / true_stddev(x[:, 0])
    assert scipy.stats.kstest(noise, "norm").pvalue > 1e-3
    for half in (x[:, 0] < 0, x[:, 0] > 0):  # the noise depends on x as stated, not on average
        assert noise[half].std() == pytest.approx(1.0, abs=0.03)


def test_stated_functions_at_known_points():
    np.testing.assert_allclose(true_mean(np.array([0.0, np.pi])), [0.0, 8.0 * np.pi], atol=1e-12)
    np.testing.assert_allclose(true_stddev(np.array([-50.0, 0.0, 50.0])), [0.5, 3.5, 6.5])


def test_the_density_integrates_to_one_and_is_the_mixture():
    x = np.linspace(-8, 8, 4001)
    assert np.trapezoid(np.exp(true_log_prob(x)), x) == pytest.approx(1.0, abs=1e-9)
    mixture = 0.5 * scipy.stats.norm(-2.5, 0.7).pdf(x) + 0.5 * scipy.stats.norm(2.5, 0.7).pdf(x)
    np.testing.assert_allclose(np.exp(true_log_prob(x)), mixture, atol=1e-12)


def test_parts_are_disjoint_and_set_by_the_seed():
    one, same, other = simulation.load(3), simulation.load(3), simulation.load(4)
    parts = [one.train, one.validation, one.test]
    assert [x.shape for x, _ in parts] == [(1000, 1), (200, 1), (1000, 1)]
    assert len(np.unique(np.concatenate([x for x, _ in parts]))) > 2190
    assert all(x.dtype == y.dtype == np.float32 and y.shape == (len(x),) for x, y in parts)
    np.testing.assert_array_equal(one.test[1], same.test[1])
    assert not np.array_equal(one.test[1], other.test[1])
