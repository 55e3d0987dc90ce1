"""Keras metrics of densities and likelihoods that declare whether higher or lower is better.

`EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` with `mode="auto"` look up this direction only for metrics
that were passed to `compile`. `set_directions` sets it for the metrics that a model creates itself.
"""

import keras

from tfp_hybrid import _compat

_MODES = {"up": "max", "down": "min"}
_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


@_register
@_compat.directed("down")
class NegativeLogLikelihood(keras.metrics.Mean):
    """The mean of -log p(y|x) in nats; lower is better."""

    def __init__(self, name: str = "nll", **kwargs):
        super().__init__(name=name, **kwargs)


@_register
@_compat.directed("up")
class LogProb(keras.metrics.Mean):
    """The mean of log p(x) in nats; higher is better."""

    def __init__(self, name: str = "log_prob_x", **kwargs):
        super().__init__(name=name, **kwargs)


@_register
@_compat.directed("down")
class BitsPerDim(keras.metrics.Mean):
    """The mean of -log2 p(x) divided by the number of entries of x, in bits; lower is better."""

    def __init__(self, name: str = "bits_per_dim", **kwargs):
        super().__init__(name=name, **kwargs)


def set_directions(callbacks: list | keras.callbacks.CallbackList, model: keras.Model):
    """Sets the mode of callbacks with `mode="auto"` that monitor a metric of the model.

    Args:
      callbacks: A list of callbacks, or a `keras.callbacks.CallbackList`.
      model: A Keras model, whose `metrics` declare their directions.
    """
    modes = {metric.name: _MODES.get(_compat.direction(metric)) for metric in model.metrics}
    for callback in getattr(callbacks, "callbacks", callbacks):
        mode = modes.get(str(getattr(callback, "monitor", None)).removeprefix("val_"))
        if mode and getattr(callback, "mode", None) == "auto":
            callback.mode = mode
