"""What the JAX contestants share: the head, the loss, the training step."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import cases
from benchmarks.contestants import LEARNING_RATE, Work


def build(case, work, variant, data, flow):
    """See `Work`; the works are `COMPARED_WORKS`, compiled by `jax.jit`.

    Args:
      case, work, variant, data: As for every contestant.
      flow: The flow, as `functions` takes it.
    """
    jax.config.update("jax_enable_x64", False)  # JAX's default
    batches = itertools.cycle(zip(*(list(map(jnp.asarray, rows)) for rows in data), strict=True))
    state, works = functions(case, flow)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state[0]))
    keys = map(jax.random.key, itertools.count())
    function = jax.jit(works[work], donate_argnums=0 if work == "step" else ())
    inputs = {"step": lambda: next(batches), "density": lambda: next(batches)[:1], "sample": lambda: (next(keys),)}[
        work
    ]

    def call():
        nonlocal state
        if work == "step":
            state, outputs = function(state, *inputs())
        else:
            outputs = function(state[0], *inputs())
        return float([np.asarray(output) for output in jax.tree.leaves(outputs)][0].flat[0])

    return Work(call, case.batch, parameters)


def functions(case, flow):
    """Adds a head and an optimizer to a flow, and returns the works as pure functions.

    Args:
      case: As for every contestant.
      flow: `(weights, inverse_and_log_det, sample)`: a tree of arrays; a function of the weights and a batch x, to
        z, `(n, D)`, and its log-det, `(n,)`; and a function of the weights, a key and a number, to as many samples.

    Returns:
      The weights of all with the optimizer's state; and a dictionary from a work's name to its function:
      `step((weights, state), x, y)`, which returns both anew and the loss, `density(weights, x)`, and
      `sample(weights, key)`.
    """
    weights, inverse_and_log_det, sample = flow
    size = cases.dimensions(case)
    weights = (weights, (jnp.zeros((size, case.outputs)), jnp.zeros(case.outputs)))
    optimizer = optax.adam(LEARNING_RATE)

    def latent_head(weights, x):
        flow_weights, (kernel, bias) = weights
        z, log_det = inverse_and_log_det(flow_weights, x)
        return log_det - 0.5 * (jnp.sum(z**2, -1) + size * math.log(2 * math.pi)), z @ kernel + bias

    def loss_of(weights, x, y):
        log_prob, eta = latent_head(weights, x)
        return -jnp.mean(_log_likelihood(case, eta, y) + case.generative_weight / size * log_prob)

    def step(state, x, y):
        weights, moments = state
        loss, gradients = jax.value_and_grad(loss_of)(weights, x, y)
        updates, moments = optimizer.update(gradients, moments, weights)
        return (optax.apply_updates(weights, updates), moments), loss

    def density(weights, x):
        log_prob, eta = latent_head(weights, x)
        return log_prob, *([jax.nn.softmax(eta)] if case.family == "glow" else _normal(eta))

    def sample_of(weights, key):
        return sample(weights[0], key, case.batch)

    return (weights, optimizer.init(weights)), {"step": step, "density": density, "sample": sample_of}


def _log_likelihood(case, eta, y):
    if case.family == "glow":
        return -optax.softmax_cross_entropy_with_integer_labels(eta, y)
    return jax.scipy.stats.norm.logpdf(y, *_normal(eta))


def _normal(eta):
    return eta[:, 0], jax.nn.softplus(eta[:, 1]) + 1e-3
