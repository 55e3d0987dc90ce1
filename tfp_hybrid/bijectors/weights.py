"""Keras weights and networks that a bijector holds, visible to TFP as variables with the same storage."""

import keras
import tensorflow as tf


class WeightHolder:
    """A `tf.Module` that declares its weights and its Keras layers; the part of `FusedBijector` that is about them."""

    def __init__(self, *args, **kwargs):
        self._keras_weights: list[keras.Variable] = []
        self._variables: list[tf.Variable] = []  # their storage, which is what TFP sees
        self._networks: list[keras.layers.Layer] = []
        super().__init__(*args, **kwargs)

    @property
    def networks(self) -> list[keras.layers.Layer]:
        """The Keras layers that this bijector itself holds, without those of the bijectors inside."""
        return list(self._networks)

    def add_weight(self, value, name: str, trainable: bool = True) -> keras.Variable:
        """Creates a weight of this bijector: a Keras variable that shares its storage with one that TFP sees.

        Args:
          value: the initial value, a tensor or what can be converted to one.
          name: name of the variable.
          trainable: whether optimizers update it.
        """
        value = tf.convert_to_tensor(value)
        weight = keras.Variable(value, dtype=value.dtype.name, trainable=trainable, autocast=False, name=name)
        self._track([weight])
        return weight

    def add_network(self, network: keras.layers.Layer) -> keras.layers.Layer:
        """Declares a built Keras layer as a network of this bijector; its weights become the bijector's."""
        self._networks.append(network)
        self._track(network.variables)
        return network

    def keras_weights(self) -> list[keras.Variable]:
        """Every weight, including those of networks and of the bijectors inside; the structure alone sets the order."""
        return weights_of(self)

    def _track(self, weights):
        self._keras_weights += weights
        self._variables += [weight.value for weight in weights]


def weights_of(module: tf.Module) -> list[keras.Variable]:
    """Returns the weights of our bijectors inside any bijector, itself included; shared ones once."""
    return list({id(weight): weight for part in _holders(module) for weight in part._keras_weights}.values())


def networks_of(module: tf.Module) -> list[keras.layers.Layer]:
    """Returns the networks of our bijectors inside any bijector, itself included; a shared one for each use."""
    return [network for part in _holders(module) for network in part.networks]


def watch(tape: tf.GradientTape, value, weights) -> list:
    """Lets a tape watch a tensor and those weights that have gradients; returns the values of all `weights`."""
    values = [weight.value for weight in weights]
    tape.watch([value, *(one for one in values if one.dtype.is_floating)])
    return values


def _holders(module):
    return [part for part in (module, *module.submodules) if isinstance(part, WeightHolder)]
