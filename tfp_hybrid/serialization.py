"""Serialization of TFP objects to JSON, so that a model with any flow saves and loads in Keras' safe mode.

TFP objects keep the arguments of their constructors in `parameters`. `serialize` writes the public name of the class
and these arguments, down to numbers, arrays and Keras configurations; `deserialize` calls the constructor again.
Nothing is pickled and no code is stored. `tfp_hybrid.trusted` lists the classes and functions that a file may name.
"""

import contextlib
import contextvars
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_hybrid import _compat
from tfp_hybrid.trusted import KIND as _KIND
from tfp_hybrid.trusted import check_config, class_named, name_of

_ACTIVATIONS = tuple(
    name
    for name, function in vars(tf_keras.activations).items()
    if inspect.isfunction(function) and name not in ("deserialize", "get", "serialize")
)

FORMAT = 1
"""The format of the configurations that this version writes and reads."""

_MEMO = contextvars.ContextVar("memo")  # the objects seen inside `sharing`, by identity or by key


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Returns a context manager in which calls share objects.

    An object that occurs in several calls of `serialize` is written once, and several calls of `deserialize` restore it
    as one object. The calls of `deserialize` must come in the order of those of `serialize`.
    """
    token = _MEMO.set({})
    try:
        yield
    finally:
        _MEMO.reset(token)


def check_format(config: dict) -> dict:
    """Checks the format number of a saved model's configuration.

    Args:
      config: The configuration, a dictionary with the key "format".

    Returns:
      The configuration without its format number.

    Raises:
      ValueError: If the format number is missing or differs from `FORMAT`.
    """
    number = config.get("format")
    if number != FORMAT:
        found = "has no format number" if number is None else f"has the format {number!r}"
        newer = isinstance(number, int) and number > FORMAT
        remedy = "Install a newer tfp_hybrid." if newer else "Retrain the model and save it with this version."
        raise ValueError(f"tfp_hybrid: the saved model {found}; this version reads {FORMAT}. {remedy}")
    return {key: value for key, value in config.items() if key != "format"}


def serialize(value, name: str = ""):
    """Converts a TFP object, or anything that TFP objects are constructed from, to JSON-serializable values.

    Args:
      value: A TFP bijector, distribution, kernel or GLM family; a variable, tensor, array, Keras layer or registered
        function; or nested containers of these.
      name: The name of the value in error messages.

    Returns:
      Nested dictionaries and lists of strings and numbers.

    Raises:
      TypeError: If a part of `value` cannot be saved, or would be refused by `deserialize`; the message gives its place
        in `value` and a remedy.
    """
    try:
        config = _encode(value, name, _MEMO.get({}))
        check_config(config)
    except (RecursionError, ValueError) as error:
        raise TypeError(f"Cannot save the model: {error}") from None
    return config


def deserialize(config):
    """Rebuilds an object from the output of `serialize`.

    Args:
      config: The output of `serialize`.

    Returns:
      A new object. The weights of Keras layers are not part of it; Keras stores them separately.

    Raises:
      ValueError: If `config` was not written by `serialize`; if it names a class or function that is not defined or
        that a saved model may not name; or if it is nested too deeply or too large.
    """
    check_config(config)
    try:
        return _decode(config, _MEMO.get({}))
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"tfp_hybrid: the saved model cannot be rebuilt: {type(error).__name__}: {error}") from error


def check_savable(model: keras.Model, path: os.PathLike | str = "model.keras"):
    """Checks that a model can be saved to `path` and loaded from it, without writing anything.

    Args:
      model: A Keras model.
      path: The file name.

    Raises:
      TypeError: If a part of the model cannot be saved; the message gives its place in the model and a remedy.
      ValueError: As `check_save_path`.
    """
    check_save_path(path)
    config = keras.saving.serialize_keras_object(model)
    try:
        check_config(config)
    except ValueError as error:
        raise TypeError(f"Cannot save the model: {error}") from None


def check_save_path(path: os.PathLike | str):
    """Raises ValueError for a file name of the HDF5 format, in which Keras would leave an incomplete file."""
    if str(path).endswith((".h5", ".hdf5")):
        raise ValueError(
            f"filepath is {str(path)!r}; wanted a name that ends in .keras, since HDF5 files cannot hold the model."
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
        memo[id(value)] = (coded["key"], value)  # keeps `value` alive, so that its id is not reused
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
        source, transform = _compat.deferred_parts(value)
        return {
            _KIND: "deferred_tensor",
            "input": _encode(source, f"{path}.pretransformed_input", memo),
            "transform_fn": _encode(transform, f"{path}.transform_fn", memo),
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
            raise TypeError(_cannot_save(value, path, "pass numbers")) from None
    if isinstance(value, Mapping):
        return {_KIND: "dict", "value": {k: _encode(v, f"{path}[{k!r}]", memo) for k, v in value.items()}}
    if isinstance(value, Sequence):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {_KIND: kind, "value": [_encode(v, f"{path}[{i}]", memo) for i, v in enumerate(value)]}
    if isinstance(value, tfp.bijectors.AutoregressiveNetwork):
        arguments = _encode(_autoregressive_network_arguments(value, path), path, memo)
        return {_KIND: "autoregressive_network", "arguments": arguments}
    if isinstance(value, tf_keras.layers.Layer):
        raise TypeError(_cannot_save(value, path, "use a Keras 3 layer in its place"))
    if hasattr(value, "get_config") or _is_registered(value):
        return {_KIND: "keras", "config": keras.saving.serialize_keras_object(value)}
    name = name_of(type(value))
    if name is None and type(value).__module__.startswith("tensorflow_probability."):
        remedy = f"use another class of TFP: {type(value).__name__} is not among those that a saved model may hold"
        raise TypeError(_cannot_save(value, path, remedy))
    if name is None:
        raise TypeError(
            _cannot_save(
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
    """Returns the constructor arguments of `value` that differ from their defaults."""
    parameters = getattr(value, "parameters", None)
    arguments = {}
    for key, parameter in inspect.signature(type(value).__init__).parameters.items():
        if key in ("self", "parameters") or parameter.kind is parameter.VAR_KEYWORD:
            continue
        known = parameters is not None and key in parameters
        argument = parameters[key] if known else _compat.stored_argument(value, key)
        if argument is not parameter.default and (known or argument is not None):
            arguments[key] = argument
    return arguments


def _autoregressive_network_arguments(network, path):
    """Returns the arguments that determine the masks of TFP's MADE, a Keras 2 layer without `get_config`."""
    arguments = _compat.autoregressive_arguments(network)
    if arguments is None:
        remedy = "give it hidden_degrees='equal': random degrees cannot be recovered from the network"
        raise TypeError(_cannot_save(network, path, remedy))
    return arguments


def _autoregressive_network(arguments):
    """Builds the network from arguments that are checked first, since tf_keras imports any module that a dict names."""
    activation = arguments.get("activation")
    if not set(arguments) <= set(_compat.AUTOREGRESSIVE_ARGUMENTS):
        raise ValueError(
            f"tfp_hybrid: the saved AutoregressiveNetwork has the arguments {list(arguments)}; wanted "
            f"{list(_compat.AUTOREGRESSIVE_ARGUMENTS)}."
        )
    if isinstance(activation, (str, Mapping)) and activation not in _ACTIVATIONS:
        raise ValueError(
            f"tfp_hybrid: the saved AutoregressiveNetwork has the activation {activation!r}; wanted one of "
            f"{', '.join(_ACTIVATIONS)}."
        )
    return tfp.bijectors.AutoregressiveNetwork(**arguments)


def _numeric(dtype) -> tf.DType:
    """Returns the dtype of that name. Only numbers are accepted, since the items of other dtypes can have any size."""
    dtype = tf.as_dtype(dtype)
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype.is_complex):
        raise ValueError(f"tfp_hybrid: the saved model holds an array of dtype {dtype.name}; wanted numbers.")
    return dtype


def _is_registered(value):
    return inspect.isfunction(value) and keras.saving.get_registered_name(value) != value.__name__


def _cannot_save(value, path, remedy):
    return f"Cannot save the model: {path.lstrip('.') or 'the object'} is {value!r}; to save it, {remedy}."
