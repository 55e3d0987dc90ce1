"""A flow's density, seen as a whole: its integral, and its samples."""

import numpy as np
import scipy.stats
import tensorflow as tf
from helpers import randomize

from tfp_hybrid import flow_distribution
from tfp_hybrid.bijectors import RealNVP

SIDE = np.linspace(-40, 40, 1001)


def density():
    """p(x) of a curved flow in two dimensions, and its values on a grid."""
    p_x = flow_distribution(RealNVP((2,), couplings=4, hidden_units=(8, 8)))
    randomize(p_x.trainable_variables, seed=3, scale=0.3)
    grid = np.stack(np.meshgrid(SIDE, SIDE, indexing="ij"), -1).astype("float32")
    return p_x, np.exp(p_x.log_prob(grid).numpy().astype("float64"))


def test_density_integrates_to_one():
    values = density()[1]
    step = SIDE[1] - SIDE[0]
    assert abs(values.sum() * step**2 - 1) < 0.01
    # The flow bends the plane: its density is not that of a Gaussian.
    mean, square = (np.einsum("i,ij->j", SIDE**k, values) / values.sum(0) for k in (1, 2))
    inside = values.sum(0) * step > 0.02
    assert np.ptp(mean[inside]) > 0.05 and np.ptp((square - mean**2)[inside]) > 0.05


def test_samples_follow_the_density():
    p_x, values = density()
    samples = p_x.sample(2000, seed=1).numpy()
    for axis in range(2):
        marginal = np.cumsum(values.sum(1 - axis))
        cdf = np.interp(samples[:, axis], SIDE + (SIDE[1] - SIDE[0]) / 2, marginal / marginal[-1])
        assert scipy.stats.kstest(cdf, "uniform").pvalue > 1e-3


def test_entropy_of_samples_is_that_of_the_density():
    p_x, values = density()
    log_prob = p_x.log_prob(tf.identity(p_x.sample(4000, seed=2))).numpy()
    cell = (SIDE[1] - SIDE[0]) ** 2
    wanted = np.sum(values * np.log(np.maximum(values, 1e-300))) * cell
    assert abs(log_prob.mean() - wanted) < 5 * log_prob.std() / np.sqrt(len(log_prob))
