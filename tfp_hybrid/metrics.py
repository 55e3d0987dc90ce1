"""Keras metrics of a density and its likelihood, which know whether higher or lower is better.

`EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` ask a metric for its `_direction`, and raise if it has none.
"""

import keras

_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


@_register
class NegativeLogLikelihood(keras.metrics.Mean):
    """Mean of -log p(y|x) in nats: lower is better."""

    _direction = "down"

    def __init__(self, name="nll", **kwargs):
        super().__init__(name=name, **kwargs)


@_register
class LogProb(keras.metrics.Mean):
    """Mean of log p(x) in nats: higher is better."""

    _direction = "up"

    def __init__(self, name="log_prob_x", **kwargs):
        super().__init__(name=name, **kwargs)


@_register
class BitsPerDim(keras.metrics.Mean):
    """Mean of -log2 p(x), divided by the numbers in x: lower is better."""

    _direction = "down"

    def __init__(self, name="bits_per_dim", **kwargs):
        super().__init__(name=name, **kwargs)
