"""Head for classification in K classes."""

import keras
import numpy as np
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Categorical(Head):
    """Softmax regression on z.

        p(y = k | z) = softmax_k(beta^T z + b)

    Labels are integers 0 .. num_classes-1; the predictive mean is the class probabilities, `(n, K)`.

    Args:
      num_classes: K >= 2.
      **kwargs: of `Head`: `kernel_initializer`, `kernel_regularizer`, and those of a Keras layer.

    Raises:
      ValueError: if `num_classes` < 2.
    """

    integer_labels = True
    classifies = True
    can_widen = True

    def __init__(self, num_classes, **kwargs):
        if num_classes < 2:
            raise ValueError(f"Categorical: `num_classes` is {num_classes}; wanted at least 2.")
        kwargs.pop("event_shape", None)
        super().__init__((), predictors=num_classes, **kwargs)
        self.num_classes = num_classes

    def distribution(self, eta):
        return tfd.Categorical(logits=eta)

    def mean(self, distribution):
        return distribution.probs_parameter()

    def metric(self):
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def check_labels(self, y):
        if y.ndim == 2 and y.shape[1] == self.num_classes:
            raise ValueError(
                f"y has shape {y.shape}: one-hot labels; wanted integer labels of shape (n,): np.argmax(y, axis=-1)."
            )
        super().check_labels(y)
        if not np.issubdtype(y.dtype, np.integer):
            raise ValueError(f"y has dtype {y.dtype}; wanted integer labels 0 .. {self.num_classes - 1}.")
        if y.size and (y.min() < 0 or y.max() >= self.num_classes):
            raise ValueError(
                f"y has labels from {y.min()} to {y.max()}; wanted 0 .. {self.num_classes - 1} for "
                f"`num_classes` = {self.num_classes}."
            )

    def get_config(self):
        config = super().get_config() | {"num_classes": self.num_classes}
        del config["event_shape"]
        return config
