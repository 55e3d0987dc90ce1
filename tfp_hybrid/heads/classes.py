"""`Classes`, the base class of heads for one of K classes."""

import numbers

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.posterior import Posterior

tfd = tfp.distributions


class Classes(Head):
    """A head whose p(y|z) is a `tfd.Categorical`.

    Labels are integers 0 .. num_classes-1; the predictive mean is the vector of class probabilities, `(n, K)`.

    Args:
      num_classes: The number of classes K, at least 2.
      predictors: The number of linear predictors.
      one_hot: Whether labels are one-hot rows, `(n, K)`, as `keras.wrappers.SKLearnClassifier` passes them.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    Raises:
      ValueError: If `num_classes` < 2, or if `event_shape` is given.
    """

    integer_labels = True
    classifies = True

    def __init__(self, num_classes: int, predictors: int, one_hot: bool = False, **kwargs):
        if not isinstance(num_classes, numbers.Integral) or num_classes < 2:
            raise ValueError(
                f"{type(self).__name__}: `num_classes` is {num_classes!r}; wanted a whole number, at least 2."
            )
        self.refuse(kwargs, "event_shape", "the response is one class")
        super().__init__((), predictors=predictors, **kwargs)
        self.num_classes, self.one_hot = num_classes, bool(one_hot)

    def integrated(self, z, posterior: Posterior) -> tfd.Categorical:
        """The average over the posterior's nodes."""
        eta, weights = posterior.nodes(z)
        probs = self.distribution(self.shaped(eta)).probs_parameter()
        return tfd.Categorical(logits=tf.math.log(tf.einsum("...sk,s->...k", probs, tf.constant(weights, eta.dtype))))

    def mean(self, distribution: tfd.Categorical) -> tf.Tensor:
        return distribution.probs_parameter()

    def metric(self) -> keras.metrics.Metric:
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def prepare_labels(self, y) -> tf.Tensor:
        y = tf.convert_to_tensor(y)
        return super().prepare_labels(tf.argmax(y, -1) if self.one_hot and y.shape.rank == 2 else y)

    def check_labels(self, y: np.ndarray):
        if self.one_hot:
            super().check_labels(y)
            if y.ndim != 2 or y.shape[1] != self.num_classes or not np.isin(y, (0, 1)).all() or (y.sum(1) != 1).any():
                raise ValueError(
                    f"y has shape {y.shape}, or a row that is not one-hot; wanted one-hot rows of shape "
                    f"('n', {self.num_classes}), since the head has one_hot=True."
                )
            return
        if y.ndim == 2 and y.shape[1] == self.num_classes:
            raise ValueError(
                f"y has shape {y.shape}, as one-hot labels have; wanted integer labels of shape (n,), such as "
                "np.argmax(y, axis=-1)."
            )
        super().check_labels(y)
        if not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"y has dtype {y.dtype}; wanted integer labels 0 .. {self.num_classes - 1}.")
        if y.size and (y.min() < 0 or y.max() >= self.num_classes):
            raise ValueError(
                f"y has labels from {y.min()} to {y.max()}; wanted 0 .. {self.num_classes - 1} for "
                f"`num_classes` = {self.num_classes}."
            )

    def get_config(self) -> dict:
        config = super().get_config() | {"num_classes": self.num_classes, "one_hot": self.one_hot}
        del config["event_shape"]
        return config
