"""Random effects of yes-or-no responses, of which few rows of each level determine little."""

import numpy as np
import scipy.optimize
import scipy.special
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid import bayes, heads

tfb, tfd = tfp.bijectors, tfp.distributions


def test_from_a_far_start_to_the_maximum_of_the_likelihood():
    rng = np.random.default_rng(0)
    levels, rows = 300, 8
    ids, effects = np.repeat(np.arange(levels), rows), rng.normal(size=levels)
    x = rng.normal(size=(len(ids), 1)).astype("float32")
    y = (rng.uniform(size=len(ids)) < scipy.special.expit(x[:, 0] + effects[ids])).astype(int)
    head = heads.MixedEffects(heads.Bernoulli(), {"id": heads.Group(ids)}, train_size=len(ids))
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(1)), tfb.Identity())
    model = hy.HybridModel(p_x, head, generative_weight=0.0)
    found = bayes.fit_effects(model, {"x": x, "id": ids}, y)  # from a standard deviation of 0.3
    assert found.converged and found.rounds < 60

    kernel, bias, log_stddev = _maximum_likelihood(x[:, 0], y, levels)
    # With so few rows, Laplace's approximation makes both a little too small.
    np.testing.assert_allclose(head.kernel.numpy().item(), kernel, rtol=0.12)
    np.testing.assert_allclose(np.sqrt(head.variance_components()["id"].item()), np.exp(log_stddev), rtol=0.2)
    np.testing.assert_allclose(head.bias.numpy().item(), bias, atol=0.01)


def _maximum_likelihood(x, y, levels):
    """Kernel, bias and the log standard deviation of a random intercept, by quadrature over it."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)

    def loss(parameters):
        kernel, bias, log_stddev = parameters
        eta = kernel * x[:, np.newaxis] + bias + np.exp(log_stddev) * nodes
        log_prob = -np.logaddexp(0, np.where(y[:, np.newaxis] == 1, -eta, eta))
        of_level = log_prob.reshape(levels, -1, len(nodes)).sum(1)
        return -scipy.special.logsumexp(of_level, axis=1, b=weights / weights.sum()).sum()

    return scipy.optimize.minimize(loss, [0.5, 0.0, -0.5]).x
