"""All private names of TensorFlow, TFP and Keras that this package uses.

Each has a test in `tests/test_compat.py` that describes what breaks without it.
"""

import contextlib
import weakref
from collections.abc import Callable

import keras
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow.python.framework import convert_to_constants, ops
from tensorflow.python.ops import control_flow_util
from tensorflow_probability.python.bijectors import chain, invert
from tensorflow_probability.python.internal import cache_util

PRIVATE_MODULES = "keras.src."
"""The beginning of the modules that Keras names in a configuration for what it does not make public."""

CACHED_EVALUATION = "_use_cached_eval_dataset"
"""The name of the argument that `keras.Model.fit` passes to `evaluate` for its validation data."""

# The base classes of `tfb.Chain` and `tfb.Invert`; TFP uses them directly for bijectors that are not composite tensors.
_Chain, _Invert = chain._Chain, invert._Invert


def is_for_xla() -> bool:
    """Returns whether XLA will compile the function that is being traced."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def omit_tracing_warning(function: tf.types.experimental.PolymorphicFunction):
    """Keeps a `tf.function` from warning that it is traced often; others with the same code count together."""
    function._omit_frequent_tracing_warning = True


def custom_gradient(function: Callable) -> Callable:
    """As `tf.custom_gradient` of tensors, except that a graph that was traced with it can be freed.

    TensorFlow registers the gradient for the whole process, and the gradient refers to the tensors of its graph, so
    every model that was ever trained would stay in memory. Here the graph keeps the gradient, and the registry only
    a weak reference to the graph.
    """
    differentiable = tf.custom_gradient(function)

    def call(*args):
        outputs = differentiable(*args)
        if not tf.executing_eagerly():
            op = tf.nest.flatten(outputs)[0].op
            _keep_gradient_in_graph(op.get_attr("_gradient_op_type").decode(), op.graph)
        return outputs

    return call


@contextlib.contextmanager
def gradients_freed_with_graph():
    """A context in which TensorFlow's own uses of `tf.custom_gradient` are handled as by `custom_gradient`."""
    graph = tf.compat.v1.get_default_graph()
    before = 0 if tf.executing_eagerly() else len(graph.get_operations())
    yield
    if not tf.executing_eagerly():
        for op in graph.get_operations()[before:]:
            if op.type == "IdentityN" and "_gradient_op_type" in op.node_def.attr:
                _keep_gradient_in_graph(op.get_attr("_gradient_op_type").decode(), graph)


def _keep_gradient_in_graph(name, graph):
    registry, reference = ops.gradient_registry._registry, weakref.ref(graph)
    if not hasattr(graph, "_tfp_hybrid_gradients"):
        graph._tfp_hybrid_gradients = {}
    if name not in graph._tfp_hybrid_gradients:
        graph._tfp_hybrid_gradients[name] = registry[name]["type"]
        registry[name]["type"] = lambda op, *grads: reference()._tfp_hybrid_gradients[name](op, *grads)
        weakref.finalize(graph, registry.pop, name, None).atexit = False


def parts_of_chain(bijector: tfp.bijectors.Bijector) -> list | None:
    """Returns the bijectors of a `tfb.Chain`, beginning at the data side; None for any other bijector."""
    return list(bijector.bijectors) if isinstance(bijector, _Chain) else None


def inverted(bijector: tfp.bijectors.Bijector) -> tfp.bijectors.Bijector | None:
    """Returns the bijector that a `tfb.Invert` inverts; None for any other bijector."""
    return bijector.bijector if isinstance(bijector, _Invert) else None


class _CacheOfGraph(cache_util.BijectorCacheWithGreedyAttrs):
    """TFP's cache, as its FFJORD uses it, except that what is computed in a graph is kept by the graph.

    TFP keeps it for the whole process: an entry ends with its tensors, but its log-det refers to the graph, which
    refers to all tensors.
    """

    def __get__(self, bijector, bijector_class=None):
        bound = super().__get__(bijector, bijector_class)
        if not tf.executing_eagerly():
            graph = tf.compat.v1.get_default_graph()
            if not hasattr(graph, "_tfp_hybrid_cache"):
                graph._tfp_hybrid_cache = cache_util.EphemeralDict()
            bound.storage = graph._tfp_hybrid_cache
        return bound


def forget_graph(bijector: tfp.bijectors.Bijector):
    """Empties the cache of a bijector of TFP and its parts if a graph is being traced, which could not be freed."""
    if not tf.executing_eagerly():
        for part in (bijector, *bijector.submodules):
            if isinstance(part, tfp.bijectors.Bijector):
                part._cache.clear()


class CachedBijector(tfp.bijectors.Bijector):
    """A bijector whose `forward_and_log_det` and `inverse_and_log_det` fill TFP's cache with value and log-det at once.

    Attributes:
      is_exact: Whether `inverse(forward(z))` is z. If False, the cache must not return z for it.
    """

    is_exact = True

    _cache = _CacheOfGraph(forward_name="_forward_and_attributes", inverse_name="_inverse_and_attributes")

    def _call_forward(self, x, name, **kwargs):
        x = super()._call_forward(x, name, **kwargs)
        return x if self.is_exact else tf.identity(x)

    def _forward_and_attributes(self, z, **kwargs):
        x, log_det = self.forward_and_log_det(z, **kwargs)
        return x, {"ildj": -log_det}

    def _inverse_and_attributes(self, x, **kwargs):
        z, log_det = self.inverse_and_log_det(x, **kwargs)
        return z, {"ildj": log_det}


def set_parameter(bijector: tfp.bijectors.Bijector, name: str, value):
    """Sets an argument in `bijector.parameters`, from which the bijector is copied and saved."""
    bijector._parameters[name] = value


def ignoring(*attributes: str):
    """Returns a decorator for a `tf.Module` class that does not search these attributes for variables and modules."""

    def extend(module_class):
        module_class._TF_MODULE_IGNORED_PROPERTIES = module_class._TF_MODULE_IGNORED_PROPERTIES | set(attributes)
        return module_class

    return extend


def ignored_attributes(module: tf.Module) -> frozenset[str]:
    """Returns the names of the attributes that a `tf.Module` does not search for variables and modules."""
    return frozenset(module._TF_MODULE_IGNORED_PROPERTIES)


def untracked(module: tf.Module, value):
    """Wraps `value` so that, as an attribute, TensorFlow does not track it as a dependency of `module`."""
    return module._no_dependency(value)


def track(layer: keras.layers.Layer, layers: list[keras.layers.Layer]):
    """Makes `layers` sublayers of `layer` without an attribute in which Keras would find and save them."""
    layer._layers.extend(layers)


def replace_sublayer(layer: keras.layers.Layer, name: str, sublayer: keras.layers.Layer | None):
    """Sets an attribute of `layer`, built or not, to a sublayer or None; one that was there is no sublayer any more."""
    former, locked = getattr(layer, name, None), layer._tracker.locked
    layer._tracker.unlock()
    if former is not None:
        layer._tracker.untrack(former)
    keras.layers.Layer.__setattr__(layer, name, sublayer)
    if locked:
        layer._tracker.lock()


class DistributedModel(keras.Model):
    """A Keras model that knows what it takes, and whose `fit` runs under any `tf.distribute` strategy.

    Keras has TensorFlow reduce its first batch over workers, and logs without axes along their first axis; it can do
    neither. A subclass has `symbolic_batch`, and its steps return `self.reducible(logs)`.
    """

    def build_metrics(self):
        """Makes the variables of all metrics and of the optimizer, without data."""
        with self.distribute_strategy.scope():
            self._symbolic_build(data_batch=self.symbolic_batch)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        if self._distribute_strategy is not None:
            self.build_metrics()

    def reducible(self, logs: dict) -> dict:
        """Returns logs that Keras can reduce over the replicas of several workers: with an axis."""
        if not isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return logs
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}


def take_summed_gradients(optimizer: keras.optimizers.Optimizer):
    """Makes an optimizer take gradients that are already summed over the replicas, from now on.

    Keras clips the gradients of each replica before it sums them, which is not what one device would do.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    inner._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables


def of_length(data: tf.distribute.DistributedDataset, length: int) -> tf.distribute.DistributedDataset:
    """Tells Keras another length of a distributed data set, which it reads so many times; returns the data set."""
    data._cardinality = length
    return data


def loss_tracker(model: keras.Model) -> keras.metrics.Metric:
    """Returns the metric of the loss that `compile` created."""
    return model._loss_tracker


def direction(metric: keras.metrics.Metric) -> str | None:
    """Returns the direction in which a metric improves: "up", "down", or None if it declares none."""
    return getattr(metric, "_direction", None)


def directed(better: str):
    """Returns a decorator that declares to Keras' callbacks in which direction a metric improves: "up" or "down"."""

    def set_direction(metric_class):
        metric_class._direction = better
        return metric_class

    return set_direction


def deferred_parts(tensor: tfp.util.DeferredTensor) -> tuple:
    """Returns the input of a `tfp.util.DeferredTensor` and the function that is applied to it."""
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
"""The arguments of `tfb.AutoregressiveNetwork` that determine its masks and layers."""


def autoregressive_arguments(network: tfp.bijectors.AutoregressiveNetwork) -> dict | None:
    """Returns the constructor arguments of a `tfb.AutoregressiveNetwork`; None if its degrees were drawn at random."""
    if network._hidden_degrees == "random":
        return None
    arguments = {name: getattr(network, attribute) for name, attribute in _AUTOREGRESSIVE_NETWORK.items()}
    if arguments["input_order"] is None:
        arguments["input_order"] = network._input_order_param
    return arguments


def stored_argument(value, name: str):
    """Returns the constructor argument `name` of a TFP object, which keeps it under this name or `_name`."""
    return getattr(value, name, getattr(value, f"_{name}", None))


def frozen(function: tf.types.experimental.ConcreteFunction) -> tf.types.experimental.ConcreteFunction:
    """Returns a traced function with its variables, and the tensors that it captured, as constants."""
    return convert_to_constants.convert_variables_to_constants_v2(function)
