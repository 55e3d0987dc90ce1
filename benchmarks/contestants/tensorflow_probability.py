"""TFP's own `tfb.Glow` and `tfb.RealNVP`, trained by a `tf.GradientTape` and Keras' Adam."""

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
    flow, variables = _glow(case) if case.family == "glow" else _real_nvp(case)
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


def _real_nvp(case):
    half = case.features // 2
    flow, variables = [], []
    for i in range(case.couplings):
        network = tf_keras.Sequential(
            [
                tf_keras.layers.Input((half,)),
                tf_keras.layers.Dense(case.hidden, "relu"),
                tf_keras.layers.Dense(case.hidden, "relu"),
                tf_keras.layers.Dense(2 * half, kernel_initializer="zeros"),
            ]
        )
        shift, log_scale = tf.Variable(tf.zeros(case.features)), tf.Variable(tf.zeros(case.features))
        coupling = tfb.RealNVP(
            num_masked=half if i % 2 else -half,
            shift_and_log_scale_fn=lambda x, units, network=network: tf.split(network(x), 2, axis=-1),
        )
        flow += [tfb.Shift(shift), tfb.Scale(log_scale=log_scale), coupling]
        variables += [shift, log_scale, *network.trainable_variables]
    return tfb.Chain(flow), variables


def _head(case, eta):
    if case.family == "glow":
        return tfd.Categorical(logits=eta)
    return tfd.Normal(eta[:, 0], tf.math.softplus(eta[:, 1]) + 1e-3)
