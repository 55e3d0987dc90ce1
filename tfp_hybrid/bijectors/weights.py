"""Keras weights and networks of a bijector, which TFP sees as variables with the same storage."""

import keras
import tensorflow as tf


class WeightHolder:
    """A `tf.Module` that registers its weights and its Keras layers; a base class of `FusedBijector`."""

    def __init__(self, *args, **kwargs):
        self._keras_weights: list[keras.Variable] = []
        self._variables: list[tf.Variable] = []  # their storage, which is what TFP sees
        self._networks: list[keras.layers.Layer] = []
        super().__init__(*args, **kwargs)

    @property
    def networks(self) -> list[keras.layers.Layer]:
        """The Keras layers of this bijector, without those of the bijectors inside it."""
        return list(self._networks)

    def add_weight(self, value, name: str, trainable: bool = True) -> keras.Variable:
        """Creates a weight of this bijector, a Keras variable that shares its storage with a variable that TFP sees.

        Args:
          value: The initial value, a tensor or a value that can be converted to one.
          name: The name of the variable.
          trainable: Whether optimizers update it.
        """
        value = tf.convert_to_tensor(value)
        weight = keras.Variable(value, dtype=value.dtype.name, trainable=trainable, autocast=False, name=name)
        self._track([weight])
        return weight

    def add_network(self, network: keras.layers.Layer) -> keras.layers.Layer:
        """Registers a built Keras layer as a network of this bijector, and its weights as weights of the bijector."""
        self._networks.append(network)
        self._track(network.variables)
        return network

    def keras_weights(self) -> list[keras.Variable]:
        """Returns all weights, with those of networks and of the bijectors inside, in an order set by the structure."""
        return weights_of(self)

    def _track(self, weights):
        self._keras_weights += weights
        self._variables += [weight.value for weight in weights]


def weights_of(module: tf.Module) -> list[keras.Variable]:
    """Returns the weights of our bijectors in any bijector, itself included; shared weights appear once."""
    return list({id(weight): weight for part in _holders(module) for weight in part._keras_weights}.values())


def networks_of(module: tf.Module) -> list[keras.layers.Layer]:
    """Returns the networks of our bijectors in any bijector, itself included; a shared network appears for each use."""
    return [network for part in _holders(module) for network in part.networks]


def watch(tape: tf.GradientTape, value, weights: list[keras.Variable]) -> list:
    """Makes a tape watch a tensor and the weights that can have gradients; returns the values of all `weights`."""
    values = [weight.value for weight in weights]
    tape.watch([value, *(one for one in values if one.dtype.is_floating)])
    return values


def _holders(module):
    return [part for part in (module, *module.submodules) if isinstance(part, WeightHolder)]
