"""Independent truths that the tests compare with, and small models."""

import collections
import itertools
import json
import zipfile

import keras
import matplotlib.colors
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid as hy
from tfp_hybrid.bijectors import FactorOut, FusedChain, Steps

tfd = tfp.distributions


def randomize(weights, seed=0, scale=0.1):
    """Adds Gaussian noise to trainable weights, so that no flow is the identity; returns `weights`."""
    rng = np.random.default_rng(seed)
    for weight in weights:
        if weight.trainable:
            weight.assign(weight + tf.cast(scale * rng.normal(size=weight.shape), weight.dtype))
    return weights


def normal(*shape, seed=1, dtype="float32"):
    """Standard normal numbers as a tensor."""
    return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)


def autodiff_log_det(function, point):
    """log|det J| of `function`, events to events, at one event: autodiff's Jacobian and numpy's slogdet.

    Row i of a batch of copies of `point` gives row i of the Jacobian, so one backward pass gives it all.
    """
    size = int(np.prod(point.shape))
    batch = tf.repeat(point[tf.newaxis], size, axis=0)
    with tf.GradientTape() as tape:
        tape.watch(batch)
        diagonal = tf.linalg.trace(tf.reshape(function(batch), (size, size)))
    jacobian = tf.reshape(tape.gradient(diagonal, batch), (size, size))
    return np.linalg.slogdet(jacobian.numpy().astype("float64"))[1]


def calls_of(layer):
    """A list that grows by the keyword arguments of each call of `layer`."""
    calls, call = [], layer.call
    layer.call = lambda *args, **kwargs: calls.append(kwargs) or call(*args, **kwargs)
    return calls


class Noting(keras.layers.Layer):
    """Passes its input on, and notes its number at each execution, in whatever graph that is."""

    def __init__(self, note, number):
        super().__init__()
        self.note = note
        self.number = self.add_weight((), lambda shape, dtype: number, dtype="int32", trainable=False)

    def call(self, x):
        tf.py_function(self.note, [self.number.value], [])
        return x


def counted(network=hy.networks.MLP, **options):
    """A function that makes conditioners with numbers 0, 1, ...; and how often each has been executed.

    It counts executions, where `calls_of` counts traces in functions; not under XLA, which has no Python inside.
    """
    executions, numbers = collections.Counter(), itertools.count()

    def conditioner(shape, units):
        noting = Noting(lambda number: executions.update([int(number)]), next(numbers))
        return keras.Sequential([keras.Input(shape), noting, network(shape, units, **options)])

    return conditioner, executions


def parts(bijector):
    """All bijectors inside, the data side first, in all levels; those of `Steps` as often as there are steps."""
    if isinstance(bijector, FusedChain):
        return [part for inner in bijector.bijectors for part in parts(inner)]
    if isinstance(bijector, Steps):
        return bijector.count * parts(bijector.step)
    return [bijector, *parts(bijector.bijector)] if isinstance(bijector, FactorOut) else [bijector]


def blobs(rows=64, seed=0, classes=2):
    """Two features and a class that depends on them."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=rows)
    x = rng.normal(size=(rows, 2)) @ [[1.0, 0.4], [0.0, 0.7]] + 1.5 * y[:, None]
    return x.astype("float32"), y


def tiny_model(head=None, seed=0, optimizer=None, event_shape=(2,), compile=True, couplings=2, **kwargs):
    """A RealNVP with random weights and a head, compiled."""
    keras.utils.set_random_seed(seed)
    flow = hy.bijectors.RealNVP(event_shape, couplings=couplings, hidden_units=(8,))
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(2) if head is None else head, **kwargs)
    randomize(model.trainable_weights, seed)
    if compile:
        model.compile(keras.optimizers.Adam(1e-2) if optimizer is None else optimizer)
    return model


def integer_model(levels=4, **kwargs):
    """A Glow of 4 x 4 images with random weights and a head for three classes, compiled."""
    flow = hy.bijectors.Glow((4, 4, 1), levels=1, steps=2, hidden_units=8, quantization_levels=levels)
    model = hy.HybridModel(hy.flow_distribution(flow), hy.heads.Categorical(3), **kwargs)
    randomize(model.trainable_weights)
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def change_config(path, change):
    """Rewrites the configuration in a `.keras` file: `change` alters it in place, or returns text to put there."""
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    config = json.loads(parts["config.json"])
    parts["config.json"] = change(config) or json.dumps(config)
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            file.writestr(name, part)


def weights_of(model):
    """Copies of the values of a model's weights."""
    return [weight.numpy() for weight in model.weights]


def mvn_log_prob(x, mean, covariance):
    """log density of a Gaussian, in closed form."""
    d = x - mean
    quadratic = np.einsum("ni,ij,nj->n", d, np.linalg.inv(covariance), d)
    return -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + len(mean) * np.log(2 * np.pi))


def contrast(first, second):
    """The contrast of two colours, from 1 to 21, after the Web Content Accessibility Guidelines 2.2."""

    def luminance(colour):
        rgb = np.array(matplotlib.colors.to_rgb(colour))
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)
