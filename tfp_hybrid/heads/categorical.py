"""Head for classification in K classes."""

import numbers

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Categorical(Head):
    """Softmax regression on z.

        p(y = k | z) = softmax_k(beta^T z + b)

    Labels are integers 0 .. num_classes-1; the predictive mean is the class probabilities, `(n, K)`.

    With `weight_stddev` = s > 0 the weights are uncertain, beta ~ Normal(M, s^2 I), and p(y|z) is the average over
    them, in MacKay's approximation for each logit: it has variance s^2 ||z||^2, and is moderated by

        kappa = 1 / sqrt(1 + pi/8 s^2 ||z||^2)

    For two classes this moderates too little: their difference has twice the variance. The bias counts as certain.
    Far from the origin the logits depend on the direction of z only. So inputs with an unusually large z, as foreign
    ones have, no longer get the surest predictions.

    Args:
      num_classes: K >= 2.
      weight_stddev: s >= 0; a typical z of D standard normal entries has ||z||^2 = D.
      one_hot: whether labels come as `(n, K)`, 1 for the class and 0 for all others, as
        `keras.wrappers.SKLearnClassifier` gives them.
      **kwargs: of `Head`: `kernel_initializer`, `kernel_regularizer`, and those of a Keras layer.

    Raises:
      ValueError: if `num_classes` < 2 or `weight_stddev` < 0, or for an `event_shape`.

    References:
      MacKay 1992, "The Evidence Framework Applied to Classification Networks", eq. 11, for two classes.
      Gibbs 1997, "Bayesian Gaussian Processes for Regression and Classification", for several.
      Kristiadi, Hein and Hennig 2020, "Being Bayesian, Even Just a Bit, Fixes Overconfidence in ReLU Networks".
    """

    integer_labels = True
    classifies = True
    can_widen = True

    def __init__(self, num_classes, weight_stddev=0.0, one_hot=False, **kwargs):
        if not isinstance(num_classes, numbers.Integral) or num_classes < 2:
            raise ValueError(f"Categorical: `num_classes` is {num_classes!r}; wanted at least 2, a whole number.")
        if not 0 <= weight_stddev < float("inf"):
            raise ValueError(f"Categorical: `weight_stddev` is {weight_stddev}; wanted a finite number >= 0.")
        self.refuse(kwargs, "event_shape", "the response is one class")
        super().__init__((), predictors=num_classes, **kwargs)
        self.num_classes = num_classes
        self.weight_stddev, self.one_hot = float(weight_stddev), bool(one_hot)

    def linear_predictor(self, z):
        eta = super().linear_predictor(z)
        if not self.weight_stddev:
            return eta
        z = tf.cast(z, self.variable_dtype)
        variance = self.weight_stddev**2 * tf.reduce_sum(tf.square(z), -1, keepdims=True)
        return eta * tf.math.rsqrt(1 + np.pi / 8 * variance)

    def distribution(self, eta):
        return tfd.Categorical(logits=eta)

    def mean(self, distribution):
        return distribution.probs_parameter()

    def metric(self):
        return keras.metrics.SparseCategoricalAccuracy(name="accuracy")

    def prepare_labels(self, y):
        y = tf.convert_to_tensor(y)
        return super().prepare_labels(tf.argmax(y, -1) if self.one_hot and y.shape.rank == 2 else y)

    def check_labels(self, y):
        if self.one_hot:
            super().check_labels(y)
            if y.ndim != 2 or y.shape[1] != self.num_classes or not np.isin(y, (0, 1)).all() or (y.sum(1) != 1).any():
                raise ValueError(
                    f"y has shape {y.shape}, or a row that is not one-hot; wanted ('n', {self.num_classes}), since the "
                    "head has one_hot=True."
                )
            return
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
        config = super().get_config() | {"num_classes": self.num_classes, "weight_stddev": self.weight_stddev}
        config["one_hot"] = self.one_hot
        del config["event_shape"]
        return config
