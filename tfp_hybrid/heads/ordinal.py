"""A head for classes in an order, such as grades."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.classes import Classes

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Ordinal(Classes):
    """The proportional odds model: classes 0 < 1 < ... < K-1 as intervals of one logistic variable.

        P(y <= k | z) = sigmoid(c_k - eta),   eta = beta^T z + b,   0 = c_0 < c_1 < ... < c_K-2

    So eta moves all classes at once, and there are d + K - 1 weights, where `Categorical` has (d + 1) K. With two
    classes it is logistic regression. The cutpoints are trained, as sums of positive steps, which start at 1. Labels
    are integers 0 .. K-1; the predictive mean is the vector of class probabilities, `(n, K)`.

    Args:
      num_classes: The number of classes K, at least 2.
      one_hot: Whether labels are one-hot rows, `(n, K)`.
      **kwargs: Passed to `Head`: `kernel_initializer`, `kernel_regularizer`, and the arguments of a Keras layer.

    Raises:
      ValueError: If `num_classes` < 2, or if `event_shape` is given.

    References:
      McCullagh 1980, "Regression Models for Ordinal Data", eq. 2.3.
    """

    can_widen = has_independent_predictors = True

    def __init__(self, num_classes: int, one_hot: bool = False, **kwargs):
        super().__init__(num_classes, predictors=1, one_hot=one_hot, **kwargs)

    def build(self, latent_shape):
        super().build(latent_shape)
        steps = np.full(self.num_classes - 2, np.log(np.expm1(1.0)))
        self.raw_steps = self.add_weight(
            shape=steps.shape, initializer=keras.initializers.Constant(steps), name="raw_steps"
        )
        self.bias.assign(tf.fill(self.bias.shape, (self.num_classes - 2) / 2))  # in the middle of the cutpoints

    @property
    def cutpoints(self) -> tf.Tensor:
        """0 = c_0 < c_1 < ... < c_K-2, `(K - 1,)`."""
        steps = tf.math.softplus(tf.convert_to_tensor(self.raw_steps))
        return tf.concat([tf.zeros(1, steps.dtype), tf.cumsum(steps)], 0)

    def distribution(self, eta) -> tfd.Categorical:
        return tfd.Categorical(logits=tfd.OrderedLogistic(self.cutpoints, eta).categorical_log_probs())

    def widen(self, factor: float):
        """Divides the linear predictor and the cutpoints by `factor`."""
        super().widen(factor)
        steps = tf.math.softplus(tf.convert_to_tensor(self.raw_steps)) / factor
        self.raw_steps.assign(tfp.math.softplus_inverse(steps))
