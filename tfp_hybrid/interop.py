"""The bridge from TFP to Keras: weights inside TFP objects become Keras weights that share their storage."""

import functools
import inspect
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence

import keras
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from tfp_hybrid import _compat


class ModuleLayer(keras.layers.Layer):
    """Wraps a `tf.Module` (any TFP bijector or distribution) as a Keras layer that owns its weights.

    Keras layers inside the module are tracked as sublayers and keep their names, `trainable` and regularization
    losses; Keras variables are tracked as well. Every other `tf.Variable` is adopted: it gets a `keras.Variable` that
    shares its storage, so that Keras trains, counts, freezes (`layer.trainable = False`) and saves it, and TFP sees the
    result.

    The layer searches the module's attributes, including nested containers and modules, and what Python functions
    among them refer to (closures, globals, `functools.partial`). The variables must exist already: if the module
    creates them lazily, call it once before.

    All weights are saved in one list, in the order in which they are found, so a file does not depend on the names of
    attributes or layers.

    Args:
      module: The TFP object.
      **kwargs: Passed to `keras.layers.Layer`.

    Attributes:
      module: The TFP object.
      adopted: The Keras variables that do not belong to a sublayer.
    """

    def __init__(self, module: tf.Module, **kwargs):
        # The module computes in its own dtypes; autocasting would change its inputs and variables.
        super().__init__(autocast=False, **kwargs)
        self.module = module
        found = list(find_weights(module))
        networks = [item for item in found if isinstance(item, keras.layers.Layer)]
        tracked = {id(weight.value) for network in networks for weight in network.variables}
        self.adopted = []
        for item in found:
            storage = item.value if isinstance(item, keras.Variable) else item
            if isinstance(storage, tf.Variable) and id(storage) not in tracked:
                self.adopted.append(item if isinstance(item, keras.Variable) else adopt(item))
                tracked.add(id(storage))
        # If the layers were in an attribute, Keras would save them a second time, by their names.
        _compat.track(self, networks)
        self._saved_elsewhere: set[int] = set()
        self.built = True

    def build(self, input_shape):
        """Does nothing but take note of the shape: all weights exist."""

    def compute_output_shape(self, input_shape):
        """The shape of z, if the module is a transformed distribution of x."""
        if not isinstance(self.module, tfp.distributions.Distribution) or not hasattr(self.module, "bijector"):
            raise NotImplementedError(f"{type(self.module).__name__} is not a transformed distribution.")
        return (input_shape[0], *self.module.distribution.event_shape)

    def leave_out(self, variables: Iterable[keras.Variable]):
        """Excludes these variables from what this layer saves, because another layer of the same model saves them."""
        self._saved_elsewhere = {id(variable) for variable in variables}

    def ordered_variables(self) -> list[keras.Variable]:
        """Returns every variable once, in the order in which the module holds them.

        `variables` has those first that were trainable when this layer was built, so that their order depends on what
        was frozen then.
        """
        found = {}
        for item in find_weights(self.module):
            if isinstance(item, keras.layers.Layer):
                variables = item.variables
            else:
                variables = [item if isinstance(item, keras.Variable) else adopt(item)]
            for variable in variables:
                found.setdefault(id(variable.value), variable)
        return list(found.values())

    def save_own_variables(self, store):
        for index, variable in enumerate(self._saved_variables()):
            store[str(index)] = variable

    def load_own_variables(self, store):
        variables = self._saved_variables()
        if len(store.keys()) != len(variables):
            raise ValueError(
                f"The layer {self.name!r} has {len(variables)} variables, but the file has {len(store.keys())} for it."
            )
        for index, variable in enumerate(variables):
            variable.assign(store[str(index)])

    def _saved_variables(self):
        return [variable for variable in self.ordered_variables() if id(variable) not in self._saved_elsewhere]


# Adopted weights by the identity of their storage, which they keep alive.
_ADOPTED: weakref.WeakValueDictionary[int, keras.Variable] = weakref.WeakValueDictionary()


def adopt(variable: tf.Variable) -> keras.Variable:
    """Returns the Keras variable that shares the storage of `variable`: assigning to one changes the other.

    Repeated calls return the same object, so that a variable found in two places is one weight of Keras. Frozen in one
    model, it is frozen in all.
    """
    known = _ADOPTED.get(id(variable))
    if known is not None:
        return known
    name = variable.name.split(":")[0].replace("/", "_") or "variable"
    adopted = keras.Variable(
        variable,
        shape=variable.shape,
        dtype=variable.dtype.name,
        trainable=variable.trainable,
        autocast=False,
        name=name,
    )
    if adopted.value is not variable:
        raise RuntimeError(
            f"Keras {keras.__version__} copied the variable {variable.name!r} instead of sharing it; "
            "tfp_hybrid needs keras >= 3.15."
        )
    # A masked kernel of `tfb.AutoregressiveNetwork` is masked by its constraint, after each step of the optimizer.
    adopted.constraint = variable.constraint
    _ADOPTED[id(variable)] = adopted
    return adopted


def find_weights(value, seen: set[int] | None = None) -> Iterator[keras.layers.Layer | keras.Variable | tf.Variable]:
    """Yields the Keras layers and variables and the `tf.Variable`s inside `value`, in a repeatable order."""
    seen = set() if seen is None else seen
    if value is None or isinstance(value, (str, bytes, int, float)) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, (keras.layers.Layer, keras.Variable, tf.Variable)):
        yield value
        return
    if isinstance(value, tf_keras.layers.Layer):
        parts = value.weights
    elif isinstance(value, tf.Module):
        ignored = _compat.ignored_attributes(value)
        parts = [part for name, part in sorted(vars(value).items()) if name not in ignored]
    elif isinstance(value, Mapping):
        parts = list(value.values())
    elif isinstance(value, Sequence):
        parts = list(value)
    elif isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif inspect.ismethod(value):
        parts = [value.__self__]
    elif inspect.isfunction(value):
        parts = _references(value)
    else:
        parts = []
    for part in parts:
        yield from find_weights(part, seen)


def _references(function):
    """Returns the values in a function's closure, and the weights and modules among the globals that it uses."""
    variables = inspect.getclosurevars(function)
    kinds = (keras.layers.Layer, keras.Variable, tf.Variable, tf.Module)
    return [
        *(part for _, part in sorted(variables.nonlocals.items())),
        *(part for _, part in sorted(variables.globals.items()) if isinstance(part, kinds)),
    ]
