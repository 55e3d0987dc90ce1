"""This package: `HybridModel`'s own training step, compiled."""

import functools
import itertools

import keras
import numpy as np
import tensorflow as tf

import tfp_hybrid as hy
from benchmarks import cases
from benchmarks.contestants import LEARNING_RATE, Work

FIT_BATCHES = {"glow": 64, "real_nvp": 1024}  # of an epoch: long enough that the start of `fit` does not count


def build(case, work, variant, data):
    """See `Work`; the works are those of `COMPARED_WORKS` and the functions named in `_WORKS`."""
    return _WORKS[work](case, data, variant == "xla")


def _model(case, data):
    weight = case.generative_weight / cases.dimensions(case)
    head = hy.heads.Categorical(case.classes) if case.family == "glow" else hy.heads.HeteroscedasticNormal()
    model = hy.HybridModel(hy.flow_distribution(_FLOWS[case.family](case)), head, generative_weight=weight)
    model.adapt(data[0][0], data[1][0])
    return model


def _glow(case):
    return hy.bijectors.Glow(
        case.shape,
        levels=case.levels,
        steps=case.steps,
        hidden_units=case.hidden,
        quantization_levels=None,
        recompute=case.recompute,
    )


def _real_nvp(case):
    return hy.bijectors.RealNVP(case.shape, couplings=case.couplings, hidden_units=(case.hidden, case.hidden))


def _neural_spline(case):
    """`bijectors.NeuralSplineFlow` has maps between its couplings that the peers' do not have."""
    network = functools.partial(hy.networks.MLP, hidden_units=(case.hidden, case.hidden))

    def pair():
        parts = []
        for swap in (False, True):
            coupling = hy.bijectors.SplineCoupling(
                case.shape, swap=swap, bins=case.bins, bound=case.bound, conditioner=network
            )
            parts += [hy.bijectors.ActNorm(case.shape), coupling]
        return hy.bijectors.FusedChain(parts, case.shape)

    return hy.bijectors.Steps(pair, case.couplings // 2, case.shape)


def _autoregressive(case):
    return hy.bijectors.AutoregressiveFlow(case.shape, steps=case.steps, hidden_units=(case.hidden, case.hidden))


def compiled_model(case, data, **options):
    """Returns a `HybridModel` of a case, its ActNorms initialized from the first batch, with an optimizer."""
    model = _model(case, data)
    model.compile(keras.optimizers.Adam(LEARNING_RATE), **options)
    model.optimizer.build(model.trainable_variables)
    return model


def _step(case, data, xla):
    """A training step a call, over different batches."""
    model = compiled_model(case, data)
    return _training(model, case, _compiled_step(model, xla), itertools.cycle(_batches(*data)))


def _step_after_a_tiny_one(case, data, xla):
    """As `_step`, but the first call has two rows: all but the memory of a whole batch is there after it."""
    model = compiled_model(case, data)
    signature = [tf.TensorSpec([None, *batches.shape[2:]], batches.dtype) for batches in data]
    tiny = [(tf.constant(data[0][0, :2]), tf.constant(data[1][0, :2]))]
    step = _compiled_step(model, xla, input_signature=signature)
    return _training(model, case, step, itertools.chain(tiny, itertools.cycle(_batches(*data))))


def _compiled_step(model, xla, **options):
    @tf.function(jit_compile=xla, autograph=False, **options)
    def step(x, y):
        return model.train_step((x, y))["loss"]

    return step


def _training(model, case, step, batches):
    return Work(lambda: float(step(*next(batches))), case.batch, _trainable(model))


def _density(case, data, xla):
    """log p(x) and the parameters of p(y|x)."""
    return _inference(case, data, xla, lambda log_prob, p_y: (*p_y, log_prob))


def _prediction(case, data, xla):
    """The parameters of p(y|x), with log p(x) dropped."""
    return _inference(case, data, xla, lambda log_prob, p_y: p_y)


def _inference(case, data, xla, wanted):
    model = _model(case, data)
    batches = itertools.cycle(_batches(*data))

    @tf.function(jit_compile=xla, autograph=False)
    def infer(x):
        encoding = model.encode(x)
        p_y, log_prob = encoding.p_y, encoding.log_prob
        parameters = [p_y.probs_parameter()] if case.family == "glow" else [p_y.mean(), p_y.stddev()]
        return wanted(log_prob, parameters)

    def call():
        outputs = [output.numpy() for output in infer(next(batches)[0])]
        return float(outputs[-1].flat[0])

    return Work(call, case.batch, _trainable(model))


def _sample(case, data, xla):
    model = _model(case, data)

    @tf.function(jit_compile=xla, autograph=False)
    def sample():
        return model.distribution.sample(case.batch)

    return Work(lambda: float(sample().numpy().flat[0]), case.batch, _trainable(model))


def _fit(case, data, xla, steps_per_execution=1):
    """An epoch of `fit` over arrays; the loss is the epoch's."""
    model = compiled_model(case, data, jit_compile=xla, steps_per_execution=steps_per_execution)
    repeats = FIT_BATCHES[case.family] // cases.BATCHES
    x, y = (np.tile(np.concatenate(batches), (repeats,) + (1,) * (batches.ndim - 2)) for batches in data)

    def call():
        return model.fit(x, y, batch_size=case.batch, verbose=0).history["loss"][0]

    return Work(call, len(x), _trainable(model))


def _fit_16(case, data, xla):
    """`fit` with `steps_per_execution=16`."""
    return _fit(case, data, xla, 16)


def _matmul(case, data, xla):
    """A product of two large float32 matrices; an item is a row."""
    a, b = (tf.random.normal((cases.MATMUL_SIZE, cases.MATMUL_SIZE)) for _ in range(2))

    @tf.function(jit_compile=xla)
    def multiply(a, b):
        return (a @ b)[0, 0]

    return Work(lambda: float(multiply(a, b)), cases.MATMUL_SIZE, 0)


def _batches(x, y):
    return list(zip(map(tf.constant, x), map(tf.constant, y), strict=True))


def _trainable(model):
    return int(sum(np.prod(weight.shape) for weight in model.trainable_weights))


_FLOWS = {
    "glow": _glow,
    "real_nvp": _real_nvp,
    "neural_spline": _neural_spline,
    "autoregressive": _autoregressive,
}
_WORKS = {
    "step": _step,
    "step_after_a_tiny_one": _step_after_a_tiny_one,
    "density": _density,
    "prediction": _prediction,
    "sample": _sample,
    "fit": _fit,
    "fit_16": _fit_16,
    "matmul": _matmul,
}
