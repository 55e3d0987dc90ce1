"""TFP objects to and from JSON, so that a model with any flow saves and loads in Keras' safe mode.

TFP keeps the arguments that an object was constructed with in its `parameters`. `serialize` writes the
class's public name and these arguments, down to numbers, arrays and Keras configs; `deserialize` calls the
constructor again. Nothing is pickled and no code is stored. Which classes and functions a file may name,
`tfp_hybrid.trusted` says.
"""

import inspect
import os
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_hybrid.trusted import KIND as _KIND
from tfp_hybrid.trusted import check_config, class_named, name_of

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
"""The arguments of `tfb.AutoregressiveNetwork` that are saved, and its attributes that hold them."""

_ACTIVATIONS = tuple(
    name
    for name, function in vars(tf_keras.activations).items()
    if inspect.isfunction(function) and name not in ("deserialize", "get", "serialize")
)


def serialize(value, name=""):
    """JSON-able form of a TFP object, or of anything that TFP objects are made from.

    Args:
      value: a TFP bijector, distribution, kernel or GLM family; a variable, tensor, array, Keras layer,
        registered function, or nested containers of these.
      name: what errors call it.

    Returns:
      Dicts, lists, strings and numbers.

    Raises:
      TypeError: for something that cannot be saved, with its place inside `value` and the remedy; and for what
        `deserialize` would refuse.
    """
    try:
        config = _encode(value, name, {})
        check_config(config)
    except (RecursionError, ValueError) as error:
        raise TypeError(f"Cannot save the model: {error}") from None
    return config


def deserialize(config):
    """The object that `serialize` was given, anew.

    Raises:
      ValueError: if `config` is not what `serialize` writes; if it names a class or function that is not defined
        here, or that a saved model may not name; if it is nested too deeply, or too large.
    """
    check_config(config)
    try:
        return _decode(config, {})
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(
            f"tfp_hybrid: the saved model cannot be made again: {type(error).__name__}: {error}"
        ) from error


def check_savable(model: keras.Model, path: os.PathLike = "model.keras"):
    """Checks that a model can be saved at `path` and loaded from there, before anything is written.

    Raises:
      TypeError: for something that cannot be saved, with its place in the model and the remedy.
      ValueError: as `check_save_path`.
    """
    check_save_path(path)
    config = keras.saving.serialize_keras_object(model)
    try:
        check_config(config)
    except ValueError as error:
        raise TypeError(f"Cannot save the model: {error}") from None


def check_save_path(path: os.PathLike):
    """Raises ValueError for a name of the older HDF5 format, in which Keras leaves half a file."""
    if str(path).endswith((".h5", ".hdf5")):
        raise ValueError(
            f"filepath is {str(path)!r}; wanted a name that ends in .keras: the older format cannot hold the model."
        )


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
        try:
            return {_KIND: "array", "dtype": _numeric(array.dtype).name, "value": array.tolist()}
        except (TypeError, ValueError):
            raise TypeError(_no_way(value, path, "pass numbers")) from None
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
    name = name_of(type(value))
    if name is None and type(value).__module__.startswith("tensorflow_probability."):
        remedy = f"use another class of TFP: {type(value).__name__} is not among those that a saved model may hold"
        raise TypeError(_no_way(value, path, remedy))
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
        value = np.asarray(config["value"], _numeric(config["dtype"]).as_numpy_dtype)
        return tf.Variable(value, trainable=config["trainable"], name=config["name"])
    if kind == "deferred_tensor":
        return tfp.util.DeferredTensor(
            _decode(config["input"], memo), _decode(config["transform_fn"], memo), dtype=config["dtype"]
        )
    if kind == "autoregressive_network":
        return _autoregressive_network(_decode(config["arguments"], memo))
    if kind == "shape":
        return tf.TensorShape(config["value"])
    if kind == "dtype":
        return tf.as_dtype(config["value"])
    if kind == "array":
        return np.asarray(config["value"], _numeric(config["dtype"]).as_numpy_dtype)
    if kind == "dict":
        return {key: _decode(value, memo) for key, value in config["value"].items()}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_decode(value, memo) for value in config["value"])
    if kind == "keras":
        return keras.saving.deserialize_keras_object(config["config"])
    if kind == "object":
        cls = class_named(config["class"])
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
        argument = parameters[key] if known else getattr(value, f"_{key}", getattr(value, key, None))
        if argument is not parameter.default and (known or argument is not None):
            arguments[key] = argument
    return arguments


def _autoregressive_network_arguments(network, path):
    """TFP's MADE is a layer of Keras 2 without `get_config`; its masks follow from these arguments."""
    if network._hidden_degrees == "random":
        raise TypeError(_no_way(network, path, "give it hidden_degrees='equal': random ones cannot be told"))
    arguments = {name: getattr(network, attribute) for name, attribute in _AUTOREGRESSIVE_NETWORK.items()}
    if arguments["input_order"] is None:
        arguments["input_order"] = network._input_order_param
    return arguments


def _autoregressive_network(arguments):
    """The network, from what `_autoregressive_network_arguments` names: tf_keras imports modules that a dict names."""
    activation = arguments.get("activation")
    if not set(arguments) <= set(_AUTOREGRESSIVE_NETWORK):
        raise ValueError(
            f"tfp_hybrid: the saved AutoregressiveNetwork has the arguments {list(arguments)}; wanted "
            f"{list(_AUTOREGRESSIVE_NETWORK)}."
        )
    if isinstance(activation, (str, Mapping)) and activation not in _ACTIVATIONS:
        raise ValueError(
            f"tfp_hybrid: the saved AutoregressiveNetwork has the activation {activation!r}; wanted one of "
            f"{', '.join(_ACTIVATIONS)}."
        )
    return tfp.bijectors.AutoregressiveNetwork(**arguments)


def _numeric(dtype) -> tf.DType:
    """The dtype of that name; others than numbers' could be of any size."""
    dtype = tf.as_dtype(dtype)
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype.is_complex):
        raise ValueError(f"tfp_hybrid: the saved model holds an array of dtype {dtype.name}; wanted numbers.")
    return dtype


def _is_registered(value):
    return inspect.isfunction(value) and keras.saving.get_registered_name(value) != value.__name__


def _no_way(value, path, remedy):
    return f"Cannot save the model: {path.lstrip('.') or 'the object'} is {value!r}; to save it, {remedy}."
