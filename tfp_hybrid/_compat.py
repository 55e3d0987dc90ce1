"""Every private name of TensorFlow, TFP and Keras that this package uses.

Each has a test in `tests/test_compat.py`, which says what breaks when it goes.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.python.ops import control_flow_util
from tensorflow_probability.python.bijectors import chain, invert
from tensorflow_probability.python.internal import cache_util

CACHED_EVALUATION = "_use_cached_eval_dataset"
"""The argument with which `keras.Model.fit` calls `evaluate` on its validation data."""

_Chain, _Invert = chain._Chain, invert._Invert  # `tfb.Chain` and `tfb.Invert` of bijectors like ours


def is_for_xla() -> bool:
    """Whether what is being traced will be compiled by XLA."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def parts_of_chain(bijector: tfp.bijectors.Bijector) -> list | None:
    """The bijectors of a `tfb.Chain`, the data side first; None for any other bijector."""
    return list(bijector.bijectors) if isinstance(bijector, _Chain) else None


def inverted(bijector: tfp.bijectors.Bijector):
    """The bijector that a `tfb.Invert` inverts; None for any other bijector."""
    return bijector.bijector if isinstance(bijector, _Invert) else None


class CachedBijector(tfp.bijectors.Bijector):
    """A bijector with `forward_and_log_det` and `inverse_and_log_det`, whose results TFP's cache keeps together.

    Attributes:
      is_exact: False where `inverse(forward(z))` is not z, so that the cache must not answer that it is.
    """

    is_exact = True

    # The cache of TFP's own bijector of this kind, FFJORD.
    _cache = cache_util.BijectorCacheWithGreedyAttrs(
        forward_name="_forward_and_attributes", inverse_name="_inverse_and_attributes"
    )

    def _call_forward(self, x, name, **kwargs):
        x = super()._call_forward(x, name, **kwargs)
        return x if self.is_exact else tf.identity(x)

    def _forward_and_attributes(self, z, training=False):
        x, log_det = self.forward_and_log_det(z, training=training)
        return x, {"ildj": -log_det}

    def _inverse_and_attributes(self, x, training=False):
        z, log_det = self.inverse_and_log_det(x, training=training)
        return z, {"ildj": log_det}


def set_parameter(bijector: tfp.bijectors.Bijector, name: str, value):
    """Changes what `bijector.parameters`, which it is copied and saved by, holds for an argument."""
    bijector._parameters[name] = value


def ignoring(*attributes: str):
    """A decorator for a `tf.Module` that looks for no variables or modules in these attributes."""

    def extend(module_class):
        module_class._TF_MODULE_IGNORED_PROPERTIES = module_class._TF_MODULE_IGNORED_PROPERTIES | set(attributes)
        return module_class

    return extend


def ignored_attributes(module: tf.Module) -> frozenset[str]:
    """The names of the attributes in which a `tf.Module` does not look for variables and modules."""
    return frozenset(module._TF_MODULE_IGNORED_PROPERTIES)


def untracked(module: tf.Module, value):
    """`value` as an attribute that TensorFlow does not track as a dependency of `module`."""
    return module._no_dependency(value)


def track(layer: keras.layers.Layer, layers: list[keras.layers.Layer]):
    """Makes `layers` sublayers of `layer`, without an attribute in which Keras would find and save them."""
    layer._layers.extend(layers)


def loss_tracker(model: keras.Model) -> keras.metrics.Metric:
    """The metric of the loss that `compile` has made."""
    return model._loss_tracker


def direction(metric: keras.metrics.Metric) -> str | None:
    """Which way a metric is better: "up", "down", or None if it does not say."""
    return getattr(metric, "_direction", None)


def directed(better: str):
    """A decorator that tells Keras' callbacks which way a metric is better: "up" or "down"."""

    def set_direction(metric_class):
        metric_class._direction = better
        return metric_class

    return set_direction


def deferred_parts(tensor: tfp.util.DeferredTensor) -> tuple:
    """What a `tfp.util.DeferredTensor` was made from: the input, and the function of it."""
    return tensor._pretransformed_input, tensor._transform_fn


_AUTOREGRESSIVE_NETWORK = {
    "params": "_params",
    "event_shape": "_event_shape",
    "conditional": "_conditional",
    "conditional_event_shape": "_conditional_event_shape",
    "conditional_input_layers": "_conditional_layers",
    "hidden_units": "_hidden_units",
    "input_order": "_input_order",
    "activation": "_activation",
    "use_bias": "_use_bias",
}
AUTOREGRESSIVE_ARGUMENTS = tuple(_AUTOREGRESSIVE_NETWORK)
"""The arguments of `tfb.AutoregressiveNetwork` that its masks and layers follow from."""


def autoregressive_arguments(network: tfp.bijectors.AutoregressiveNetwork) -> dict | None:
    """The arguments that a `tfb.AutoregressiveNetwork` was made with; None if its degrees were drawn at random."""
    if network._hidden_degrees == "random":
        return None
    arguments = {name: getattr(network, attribute) for name, attribute in _AUTOREGRESSIVE_NETWORK.items()}
    if arguments["input_order"] is None:
        arguments["input_order"] = network._input_order_param
    return arguments


def stored_argument(value, name: str):
    """The constructor's argument `name`, which an object of TFP keeps under this name or with an underscore."""
    return getattr(value, name, getattr(value, f"_{name}", None))
