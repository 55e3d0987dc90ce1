"""Keras metrics of a density and its likelihood, which know whether higher or lower is better.

`EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` ask only metrics that `compile` was given. For the metrics
that a model has of its own, there is `set_directions`.
"""

import keras

from tfp_hybrid import _compat

_MODES = {"up": "max", "down": "min"}
_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


@_register
@_compat.directed("down")
class NegativeLogLikelihood(keras.metrics.Mean):
    """Mean of -log p(y|x) in nats: lower is better."""

    def __init__(self, name="nll", **kwargs):
        super().__init__(name=name, **kwargs)


@_register
@_compat.directed("up")
class LogProb(keras.metrics.Mean):
    """Mean of log p(x) in nats: higher is better."""

    def __init__(self, name="log_prob_x", **kwargs):
        super().__init__(name=name, **kwargs)


@_register
@_compat.directed("down")
class BitsPerDim(keras.metrics.Mean):
    """Mean of -log2 p(x), divided by the numbers in x: lower is better."""

    def __init__(self, name="bits_per_dim", **kwargs):
        super().__init__(name=name, **kwargs)


def set_directions(callbacks, model):
    """Sets the mode of callbacks that monitor a metric of the model's own, if it is "auto".

    Args:
      callbacks: a list of callbacks, or a `keras.callbacks.CallbackList`.
      model: a Keras model; the directions are those of its `metrics`.
    """
    modes = {metric.name: _MODES.get(_compat.direction(metric)) for metric in model.metrics}
    for callback in getattr(callbacks, "callbacks", callbacks):
        mode = modes.get(str(getattr(callback, "monitor", None)).removeprefix("val_"))
        if mode and getattr(callback, "mode", None) == "auto":
            callback.mode = mode
