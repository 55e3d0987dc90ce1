"""TFP objects to and from JSON, so that a model with any flow saves and loads in Keras' safe mode.

TFP keeps the arguments that an object was constructed with in its `parameters`. `serialize` writes the
class's public name and these arguments, down to numbers, arrays and Keras configs; `deserialize` calls the
constructor again. Nothing is pickled and no code is stored. Classes are looked up by name in TFP, among the
`FusedBijector`s that are defined, and in Keras' registry.
"""

import contextlib
import importlib
import inspect
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_hybrid.bijectors.base import SAVABLE_BIJECTORS, savable_name

_PUBLIC = {
    "tfp.bijectors": tfp.bijectors,
    "tfp.distributions": tfp.distributions,
    "tfp.glm": tfp.glm,
    "tfp.math.psd_kernels": tfp.math.psd_kernels,
}
_KIND = "tfp_hybrid_kind"


def serialize(value, name=""):
    """JSON-able form of a TFP object, or of anything that TFP objects are made from.

    Args:
      value: a TFP bijector, distribution, kernel or GLM family; a variable, tensor, array, Keras layer,
        registered function, or nested containers of these.
      name: what errors call it.

    Returns:
      Dicts, lists, strings and numbers.

    Raises:
      TypeError: for something that cannot be saved, with its place inside `value` and the remedy.
    """
    return _encode(value, name, {})


def deserialize(config):
    """The object that `serialize` was given, anew.

    Raises:
      ValueError: if a class or function in `config` is not known here.
    """
    return _decode(config, {})


def _encode(value, path, memo):
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if id(value) in memo:
        return {_KIND: "shared", "key": memo[id(value)][0]}
    coded = _encode_object(value, path, memo)
    if isinstance(coded, dict) and coded.get(_KIND) in (
        "variable",
        "object",
        "keras",
        "autoregressive_network",
    ):
        coded["key"] = len(memo)
        memo[id(value)] = (coded["key"], value)  # holds `value`, so that its id stays taken
    return coded


def _encode_object(value, path, memo):
    if isinstance(value, tf.Variable):
        return {
            _KIND: "variable",
            "dtype": value.dtype.name,
            "value": value.numpy().tolist(),
            "trainable": value.trainable,
            "name": value.name.split(":")[0],
        }
    if isinstance(value, tfp.util.DeferredTensor):
        return {
            _KIND: "deferred_tensor",
            "input": _encode(value._pretransformed_input, f"{path}.pretransformed_input", memo),
            "transform_fn": _encode(value._transform_fn, f"{path}.transform_fn", memo),
            "dtype": value.dtype.name,
        }
    if isinstance(value, tf.TensorShape):
        return {_KIND: "shape", "value": value.as_list()}
    if isinstance(value, tf.DType) or (isinstance(value, type) and issubclass(value, np.generic)):
        return {_KIND: "dtype", "value": tf.as_dtype(value).name}
    if isinstance(value, (tf.Tensor, np.ndarray, np.generic)):
        array = np.asarray(value)
        return {_KIND: "array", "dtype": array.dtype.name, "value": array.tolist()}
    if isinstance(value, Mapping):
        return {_KIND: "dict", "value": {k: _encode(v, f"{path}[{k!r}]", memo) for k, v in value.items()}}
    if isinstance(value, Sequence):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {_KIND: kind, "value": [_encode(v, f"{path}[{i}]", memo) for i, v in enumerate(value)]}
    if isinstance(value, tfp.bijectors.AutoregressiveNetwork):
        arguments = _encode(_autoregressive_network_arguments(value, path), path, memo)
        return {_KIND: "autoregressive_network", "arguments": arguments}
    if isinstance(value, tf_keras.layers.Layer):
        raise TypeError(_no_way(value, path, "use a Keras 3 layer in its place"))
    if hasattr(value, "get_config") or _is_registered(value):
        return {_KIND: "keras", "config": keras.saving.serialize_keras_object(value)}
    name = _public_name(type(value))
    if name is None:
        raise TypeError(
            _no_way(
                value,
                path,
                "use a Keras layer, or decorate it with `keras.saving.register_keras_serializable`",
            )
        )
    arguments = {
        key: _encode(argument, f"{path}.{key}", memo) for key, argument in _constructor_arguments(value).items()
    }
    return {_KIND: "object", "class": name, "arguments": arguments}


def _decode(config, memo):
    if not isinstance(config, dict):
        return config
    kind = config[_KIND]
    if kind == "shared":
        return memo[config["key"]]
    value = _decode_object(kind, config, memo)
    if "key" in config:
        memo[config["key"]] = value
    return value


def _decode_object(kind, config, memo):
    if kind == "variable":
        value = np.asarray(config["value"], config["dtype"])
        return tf.Variable(value, trainable=config["trainable"], name=config["name"])
    if kind == "deferred_tensor":
        return tfp.util.DeferredTensor(
            _decode(config["input"], memo), _decode(config["transform_fn"], memo), dtype=config["dtype"]
        )
    if kind == "autoregressive_network":
        return tfp.bijectors.AutoregressiveNetwork(**_decode(config["arguments"], memo))
    if kind == "shape":
        return tf.TensorShape(config["value"])
    if kind == "dtype":
        return tf.as_dtype(config["value"])
    if kind == "array":
        return np.asarray(config["value"], config["dtype"])
    if kind == "dict":
        return {key: _decode(value, memo) for key, value in config["value"].items()}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_decode(value, memo) for value in config["value"])
    if kind == "keras":
        return keras.saving.deserialize_keras_object(config["config"])
    if kind == "object":
        cls = _public_class(config["class"])
        return cls(**{key: _decode(value, memo) for key, value in config["arguments"].items()})
    raise ValueError(f"tfp_hybrid: the saved model holds {kind!r}, which this version does not know.")


def _constructor_arguments(value):
    """The arguments `value` was made with, without those at their defaults."""
    parameters = getattr(value, "parameters", None)
    arguments = {}
    for key, parameter in inspect.signature(type(value).__init__).parameters.items():
        if key in ("self", "parameters") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        known = parameters is not None and key in parameters
        argument = parameters[key] if known else getattr(value, f"_{key}", None)
        if argument is not parameter.default and (known or argument is not None):
            arguments[key] = argument
    return arguments


def _autoregressive_network_arguments(network, path):
    """TFP's MADE is a layer of Keras 2 without `get_config`; its masks follow from these arguments."""
    if network._hidden_degrees == "random":
        raise TypeError(_no_way(network, path, "give it hidden_degrees='equal': random ones cannot be told"))
    order = network._input_order_param if network._input_order is None else network._input_order
    return {
        "params": network._params,
        "event_shape": network._event_shape,
        "conditional": network._conditional,
        "conditional_event_shape": network._conditional_event_shape,
        "conditional_input_layers": network._conditional_layers,
        "hidden_units": network._hidden_units,
        "input_order": order,
        "activation": network._activation,
        "use_bias": network._use_bias,
    }


def _public_name(cls):
    if SAVABLE_BIJECTORS.get(savable_name(cls)) is cls:
        return savable_name(cls)
    public = cls.__name__.lstrip("_")  # tfb.Chain of bijectors that are no composite tensors is a _Chain
    for prefix, module in _PUBLIC.items():
        found = getattr(module, public, None)
        if isinstance(found, type) and issubclass(found, cls):
            return f"{prefix}.{public}"
    return None


def _public_class(name):
    prefix, _, short = name.rpartition(".")
    if name not in SAVABLE_BIJECTORS and prefix.startswith("tfp_hybrid."):
        with contextlib.suppress(ImportError):
            importlib.import_module(prefix)
    if name in SAVABLE_BIJECTORS:
        return SAVABLE_BIJECTORS[name]
    found = getattr(_PUBLIC.get(prefix), short, None)
    if not isinstance(found, type):
        raise ValueError(
            f"tfp_hybrid: the saved model uses the class {name!r}, which is not defined here. If it is yours, "
            "import its module before loading."
        )
    return found


def _is_registered(value):
    return inspect.isfunction(value) and keras.saving.get_registered_name(value) != value.__name__


def _no_way(value, path, remedy):
    return f"Cannot save the model: {path.lstrip('.') or 'the object'} is {value!r}; to save it, {remedy}."
