"""`Wrapper`, the base class of heads around another head."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.posterior import Posterior

tfd = tfp.distributions

_OF_HEAD = ("event_shape", "kernel_initializer", "kernel_regularizer")


class Wrapper(Head):
    """A head with the kernel, the bias and the likelihood of the head inside; a subclass changes one thing.

    Args:
      head: The head inside, which is built, adapted and saved with this one.
      **kwargs: Passed to `keras.layers.Layer`. `dtype` defaults to that of `head`.

    Raises:
      ValueError: If an argument is given that `head` has already, or if `head` has a posterior, or no kernel.
    """

    def __init__(self, head: Head, **kwargs):
        for argument in (*_OF_HEAD, "predictors"):
            self.refuse(kwargs, argument, "`head` has one")
        if not head.has_kernel:
            raise ValueError(
                f"{type(self).__name__}: `head` is {type(head).__name__}, which has no kernel; wanted another."
            )
        if head.posterior is not None:
            raise ValueError(
                f"{type(self).__name__}: `head` has a posterior; wanted none, since this head has its own."
            )
        super().__init__(head.event_shape, head.predictors, **{"dtype": head.dtype} | kwargs)
        self.head = head
        self.integer_labels, self.classifies = head.integer_labels, head.classifies
        self.num_classes, self.one_hot = head.num_classes, head.one_hot
        self.has_independent_predictors = head.has_independent_predictors

    def build(self, latent_shape):
        if not self.head.built:
            self.head.build(latent_shape)

    @property
    def side_inputs(self) -> dict[str, tf.TensorSpec]:
        return self.head.side_inputs

    def side_columns(self, given: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        return self.head.side_columns(given)

    def check_side_inputs(self, given: dict[str, np.ndarray], argument: str = "x") -> dict[str, np.ndarray]:
        return self.head.check_side_inputs(given, argument)

    def check_training_inputs(self, given: dict[str, np.ndarray], argument: str = "x"):
        self.head.check_training_inputs(given, argument)

    def unwrapped(self) -> Head:
        return self.head.unwrapped()

    @property
    def kernel(self) -> keras.Variable:
        """The kernel of the head inside."""
        return self.head.kernel

    @property
    def bias(self) -> keras.Variable:
        """The bias of the head inside."""
        return self.head.bias

    def linear_predictor(self, z) -> tf.Tensor:
        return self.head.linear_predictor(z)

    def distribution(self, eta) -> tfd.Distribution:
        return self.head.distribution(eta)

    def integrated(self, z, posterior: Posterior) -> tfd.Distribution:
        return self.head.integrated(z, posterior)

    def information(self, eta, y) -> tf.Tensor:
        return self.head.information(eta, y)

    def mean(self, distribution: tfd.Distribution) -> tf.Tensor:
        return self.head.mean(distribution)

    def metric(self) -> keras.metrics.Metric:
        return self.head.metric()

    def prepare_labels(self, y) -> tf.Tensor:
        return self.head.prepare_labels(y)

    def check_labels(self, y: np.ndarray):
        self.head.check_labels(y)

    def share(self, variables: list[keras.Variable]):
        self.head.share(variables)

    def adapt(self, y: np.ndarray):
        self.head.adapt(y)

    def is_adapted(self) -> bool:
        return self.head.is_adapted()

    def get_config(self) -> dict:
        config = {name: value for name, value in super().get_config().items() if name not in _OF_HEAD}
        return config | {"head": keras.saving.serialize_keras_object(self.head)}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config | {"head": keras.saving.deserialize_keras_object(config["head"])})
