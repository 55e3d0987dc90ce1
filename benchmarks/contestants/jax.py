"""JAX: a Glow and a RealNVP written by hand in `jax.numpy` and `lax`, as a user who wants speed would write them.

The steps of a level are a Python loop, which XLA compiles as one program.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.contestants import jax_works


def build(case, work, variant, data):
    """See `jax_works.build`."""
    return jax_works.build(case, work, variant, data, flow(case))


def flow(case):
    """Returns the flow of a case, as `jax_works.functions` takes it."""
    return _glow(case) if case.family == "glow" else _real_nvp(case)


def _glow(case):
    keys = iter(jax.random.split(jax.random.key(0), 3 * case.levels * case.steps))
    weights = [
        [_glow_step(keys, channels, case.hidden) for _ in range(case.steps)] for _, channels in case.level_shapes
    ]
    last = case.levels - 1

    def inverse_and_log_det(weights, x):
        left, log_det = [], jnp.zeros(len(x))
        for level, steps in enumerate(weights):
            x = _squeeze(x)
            for step in steps:
                x, change = _inverse_glow_step(step, x)
                log_det += change
            if level < last:
                x, z = jnp.split(x, 2, -1)
                left.append(z)
        return jnp.concatenate([z.reshape(len(z), -1) for z in [*left, x]], -1), log_det

    def sample(weights, key, n):
        x = None
        keys = jax.random.split(key, case.levels)
        for level, (side, channels) in reversed(list(enumerate(case.level_shapes))):
            z = jax.random.normal(keys[level], (n, side, side, channels if level == last else channels // 2))
            x = z if x is None else jnp.concatenate([x, z], -1)
            for step in reversed(weights[level]):
                x = _forward_glow_step(step, x)
            x = _unsqueeze(x)
        return x

    return weights, inverse_and_log_det, sample


def _glow_step(keys, channels, hidden):
    half = channels // 2
    lower, upper = jax.random.normal(next(keys), (2, channels, channels)) / channels
    return {
        "shift": jnp.zeros(channels),
        "log_scale": jnp.zeros(channels),
        "lower": lower,  # of which one triangle is used
        "upper": upper,
        "log_diagonal": jnp.zeros(channels),
        "network": [
            _kernel_and_bias(next(keys), (3, 3, half, hidden)),
            _kernel_and_bias(next(keys), (1, 1, hidden, hidden)),
            (jnp.zeros((3, 3, hidden, channels)), jnp.zeros(channels)),
        ],
    }


def _kernel_and_bias(key, shape):
    return jax.random.normal(key, shape) / math.sqrt(np.prod(shape[:-1])), jnp.zeros(shape[-1])


def _matrix(step):
    channels = len(step["log_diagonal"])
    lower = jnp.tril(step["lower"], -1) + jnp.eye(channels)
    return lower @ (jnp.triu(step["upper"], 1) + jnp.diag(jnp.exp(step["log_diagonal"])))


def _inverse_glow_step(step, x):
    pixels = x.shape[1] * x.shape[2]
    log_det = pixels * (jnp.sum(step["log_scale"]) + jnp.sum(step["log_diagonal"]))
    x = (x * jnp.exp(step["log_scale"]) + step["shift"]) @ _matrix(step)
    given, changed = jnp.split(x, 2, -1)
    shift, log_scale = _image_parameters(step, given)
    x = jnp.concatenate([given, changed * jnp.exp(log_scale) + shift], -1)
    return x, log_det + jnp.sum(log_scale, (1, 2, 3))


def _forward_glow_step(step, z):
    given, changed = jnp.split(z, 2, -1)
    shift, log_scale = _image_parameters(step, given)
    z = jnp.concatenate([given, (changed - shift) * jnp.exp(-log_scale)], -1)
    return (z @ jnp.linalg.inv(_matrix(step)) - step["shift"]) * jnp.exp(-step["log_scale"])


def _image_parameters(step, x):
    first, second, last = step["network"]
    for kernel, bias in (first, second):
        x = jax.nn.relu(_convolution(x, kernel) + bias)
    kernel, bias = last
    shift, log_scale = jnp.split(_convolution(x, kernel) + bias, 2, -1)
    return shift, 2 * jnp.tanh(log_scale / 2)


def _convolution(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _squeeze(x):
    n, height, width, channels = x.shape
    x = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, height // 2, width // 2, 4 * channels)


def _unsqueeze(x):
    n, height, width, channels = x.shape
    x = x.reshape(n, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * height, 2 * width, channels // 4)


def _real_nvp(case):
    keys = iter(jax.random.split(jax.random.key(0), 2 * case.couplings))
    half, hidden = case.features // 2, case.hidden
    weights = [
        {
            "shift": jnp.zeros(case.features),
            "log_scale": jnp.zeros(case.features),
            "network": [
                _kernel_and_bias(next(keys), (half, hidden)),
                _kernel_and_bias(next(keys), (hidden, hidden)),
                (jnp.zeros((hidden, case.features)), jnp.zeros(case.features)),
            ],
        }
        for _ in range(case.couplings)
    ]

    def inverse_and_log_det(weights, x):
        log_det = jnp.zeros(len(x))
        for i, step in enumerate(weights):
            x = x * jnp.exp(step["log_scale"]) + step["shift"]
            given, changed = _halves(x, i)
            shift, log_scale = _vector_parameters(step, given)
            x = _joined(given, changed * jnp.exp(log_scale) + shift, i)
            log_det += jnp.sum(step["log_scale"]) + jnp.sum(log_scale, -1)
        return x, log_det

    def sample(weights, key, n):
        x = jax.random.normal(key, (n, case.features))
        for i, step in reversed(list(enumerate(weights))):
            given, changed = _halves(x, i)
            shift, log_scale = _vector_parameters(step, given)
            x = _joined(given, (changed - shift) * jnp.exp(-log_scale), i)
            x = (x - step["shift"]) * jnp.exp(-step["log_scale"])
        return x

    return weights, inverse_and_log_det, sample


def _halves(x, i):
    first, second = jnp.split(x, 2, -1)
    return (first, second) if i % 2 == 0 else (second, first)


def _joined(given, changed, i):
    return jnp.concatenate([given, changed] if i % 2 == 0 else [changed, given], -1)


def _vector_parameters(step, x):
    first, second, (kernel, bias) = step["network"]
    for hidden_kernel, hidden_bias in (first, second):
        x = jax.nn.relu(x @ hidden_kernel + hidden_bias)
    shift, log_scale = jnp.split(x @ kernel + bias, 2, -1)
    return shift, 2 * jnp.tanh(log_scale / 2)
