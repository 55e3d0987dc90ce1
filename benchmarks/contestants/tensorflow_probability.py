"""TFP's own flows: `tfb.Glow`, `tfb.RealNVP` and `tfb.MaskedAutoregressiveFlow`, with a `tf.GradientTape` and Adam."""

import functools
import itertools

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from benchmarks import cases
from benchmarks.contestants import LEARNING_RATE, Work

tfb, tfd = tfp.bijectors, tfp.distributions


def build(case, work, variant, data):
    """See `Work`; the works are `COMPARED_WORKS`."""
    x, y = (list(map(tf.constant, batches)) for batches in data)
    works, variables, optimizer = functions(case)
    batches = itertools.cycle(zip(x, y, strict=True))
    function = tf.function(works[work], jit_compile=variant == "xla")
    if work == "step":
        optimizer.build(variables)
    inputs = {"step": lambda: next(batches), "density": lambda: next(batches)[:1], "sample": tuple}[work]

    def call():
        outputs = [output.numpy() for output in tf.nest.flatten(function(*inputs()))]
        return float(outputs[0].flat[0])

    return Work(call, case.batch, sum(int(np.prod(variable.shape)) for variable in variables))


def functions(case):
    """The works as functions of tensors.

    Returns:
      From a work's name to its function: `step(x, y)`, `density(x)` and `sample(seed=None)`; the trainable variables;
      and the optimizer, to be built.
    """
    flow, variables = _FLOWS[case.family](case)
    size = cases.dimensions(case)
    p_x = tfd.TransformedDistribution(tfd.MultivariateNormalDiag(tf.zeros(size)), flow)
    kernel, bias = tf.Variable(tf.zeros((size, case.outputs))), tf.Variable(tf.zeros(case.outputs))
    variables = [*variables, kernel, bias]
    optimizer = keras.optimizers.Adam(LEARNING_RATE)

    def latent_head(x):
        z = flow.inverse(x)  # log_prob takes it from TFP's cache
        return p_x.log_prob(x), _head(case, z @ kernel + bias)

    def step(x, y):
        with tf.GradientTape() as tape:
            log_prob, p_y = latent_head(x)
            loss = -tf.reduce_mean(p_y.log_prob(y) + case.generative_weight / size * log_prob)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return loss

    def density(x):
        log_prob, p_y = latent_head(x)
        return log_prob, *([p_y.probs_parameter()] if case.family == "glow" else [p_y.mean(), p_y.stddev()])

    def sample(seed=None):
        return p_x.sample(case.batch, seed=seed)

    return {"step": step, "density": density, "sample": sample}, variables, optimizer


def _glow(case):
    flow = tfb.Glow(
        output_shape=case.shape,
        num_glow_blocks=case.levels,
        num_steps_per_block=case.steps,
        coupling_bijector_fn=lambda shape: tfb.GlowDefaultNetwork(shape, num_hidden=case.hidden),
        exit_bijector_fn=_plain_exit,
    )
    return flow, flow.trainable_variables


def _plain_exit(input_shape, output_chan):
    """What leaves a level, leaves as it is; no network, as with the other contestants."""
    return lambda inputs: tfb.Identity()


def _couplings(case):
    half = case.features // 2
    spline = case.family == "neural_spline"
    flow, variables = [], []
    for i in range(case.couplings):
        network = tf_keras.Sequential(
            [
                tf_keras.layers.Input((half,)),
                tf_keras.layers.Dense(case.hidden, "relu"),
                tf_keras.layers.Dense(case.hidden, "relu"),
                tf_keras.layers.Dense(half * (3 * case.bins - 1 if spline else 2), kernel_initializer="zeros"),
            ]
        )
        if spline:
            options = dict(bijector_fn=functools.partial(_spline, case, network))
        else:
            options = dict(shift_and_log_scale_fn=functools.partial(_shift_and_log_scale, network))
        act_norm, parameters = _act_norm(case)
        flow += [*act_norm, tfb.RealNVP(num_masked=half if i % 2 else -half, **options)]
        variables += [*parameters, *network.trainable_variables]
    return tfb.Chain(flow), variables


def _shift_and_log_scale(network, x, units):
    return tf.split(network(x), 2, axis=-1)


def _spline(case, network, x, units, **kwargs):
    """A spline from z to x whose inverse takes what a density takes: one evaluation, no root."""
    raw = tf.reshape(network(x), (-1, units, 3 * case.bins - 1))
    *sizes, slopes = tf.split(raw, [case.bins, case.bins, case.bins - 1], -1)
    widths, heights = (2 * case.bound * (1e-2 / case.bins + 0.99 * tf.nn.softmax(size)) for size in sizes)
    slopes = 1e-2 + tf.math.softplus(slopes)
    return tfb.Invert(tfb.RationalQuadraticSpline(widths, heights, slopes, range_min=-case.bound))


def _autoregressive(case):
    flow, variables = [], []
    for i in range(case.steps):
        network = tfb.AutoregressiveNetwork(
            params=2,
            event_shape=case.features,
            hidden_units=2 * [case.hidden],
            input_order="right-to-left" if i % 2 else "left-to-right",
            activation="relu",
        )
        network.build((None, case.features))
        act_norm, parameters = _act_norm(case)
        flow += [*act_norm, tfb.MaskedAutoregressiveFlow(network)]
        variables += [*parameters, *network.trainable_variables]
    return tfb.Chain(flow), variables


def _act_norm(case):
    shift, log_scale = tf.Variable(tf.zeros(case.features)), tf.Variable(tf.zeros(case.features))
    return [tfb.Shift(shift), tfb.Scale(log_scale=log_scale)], [shift, log_scale]


_FLOWS = {"glow": _glow, "real_nvp": _couplings, "neural_spline": _couplings, "autoregressive": _autoregressive}


def _head(case, eta):
    if case.family == "glow":
        return tfd.Categorical(logits=eta)
    return tfd.Normal(eta[:, 0], tf.math.softplus(eta[:, 1]) + 1e-3)
