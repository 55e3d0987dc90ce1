"""A head whose linear predictor has a known part, such as the log of an exposure."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.exponential_family import ExponentialFamily
from tfp_hybrid.heads.normal import StandardizedResponse
from tfp_hybrid.heads.side_input_head import SideInputHead, number_column

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Offset(SideInputHead):
    """A head with an offset: a part of the linear predictor that is known, and has no coefficient.

        E[y | x] = g^-1(beta^T z + b + offset)

    Counts in unequal times or areas have one: with a log link, `offset = log(exposure)` makes the rest the rate per
    unit of exposure. Of several linear predictors, the one of the mean has the offset; that of a `Normal` head is in
    the unit of y.

    Args:
      head: The head inside.
      offset: The name of the side input that is the offset, a number for each row.
      exposure: In place of `offset`, the name of a side input > 0 whose logarithm is the offset, for a log link.
      **kwargs: Passed to `keras.layers.Layer`. `dtype` defaults to that of `head`.

    Raises:
      ValueError: Unless one of `offset` and `exposure` is given; or if `head` has no predictor of a mean, or for
        `exposure` not a log link.

    Example:

    >>> head = heads.Offset(heads.ExponentialFamily("Poisson"), exposure="hours")
    >>> head.side_inputs
    {'hours': TensorSpec(shape=(), dtype=tf.float32, name=None)}

    References:
      McCullagh and Nelder 1989, "Generalized Linear Models", section 6.3.2.
    """

    def __init__(self, head: Head, offset: str | None = None, exposure: str | None = None, **kwargs):
        if not isinstance(head, Head) or head.trains_posterior or head.location_predictor is None:
            raise ValueError(
                f"Offset: `head` is {head!r}; wanted a head with a linear predictor of its mean, without a posterior."
            )
        if (offset is None) == (exposure is None) or not isinstance(offset or exposure, str):
            raise ValueError(f"Offset: `offset` is {offset!r} and `exposure` is {exposure!r}; wanted one name.")
        if exposure is not None and not _has_log_link(head):
            raise ValueError(
                f"Offset: `exposure` is {exposure!r}, but the mean of the head {type(head).__name__} is not the "
                "exponential of its linear predictor; wanted a log link, such as that of Poisson, or `offset`."
            )
        super().__init__(head, **kwargs)
        self.offset, self.exposure = offset, exposure
        # The logits of other heads would have to be divided with their offset.
        self.can_widen = head.can_widen and isinstance(head.unwrapped(), StandardizedResponse)

    @property
    def location_predictor(self) -> int:
        """That of the head inside."""
        return self.head.location_predictor

    @property
    def own_inputs(self):
        return {self.offset or self.exposure: tf.TensorSpec((), tf.float32)}

    def own_columns(self, given):
        given = tf.cast(given[self.offset or self.exposure], self.variable_dtype)
        return [given if self.exposure is None else tf.math.log(given)]

    def check_own(self, given, argument):
        name = self.offset or self.exposure
        found = number_column(given[name], name, argument)
        if self.exposure is not None and (found <= 0).any():
            row = (found <= 0).argmax()
            raise ValueError(f"{argument}: {name!r} holds {found[row]} in row {row}; wanted exposures > 0.")
        return {name: found}

    def linear_predictor(self, z) -> tf.Tensor:
        z, offset = self.split(z, 1)
        eta = self.head.linear_predictor(z)
        head = self.unwrapped()
        offset = tf.reshape(
            offset, tf.concat([tf.shape(offset)[:-1], [1] * (eta.shape.rank - offset.shape.rank + 1)], 0)
        )
        if isinstance(head, StandardizedResponse):
            stddev = tf.convert_to_tensor(head.response_stddev)
            offset = offset / (stddev if self.predictors == 1 else stddev[..., tf.newaxis])
        if self.predictors > 1:
            offset *= tf.one_hot(self.location_predictor, self.predictors, dtype=offset.dtype)
        return eta + offset

    def widen(self, factor: float):
        self.head.widen(factor)

    def get_config(self) -> dict:
        return super().get_config() | {"offset": self.offset, "exposure": self.exposure}


def _has_log_link(head):
    """Whether one unit of the linear predictor multiplies the mean by e."""
    head = head.unwrapped()
    if not isinstance(head, ExponentialFamily):
        return False
    means = head.family.as_distribution(tf.constant([0.0, 1.0])).mean().numpy()
    return bool(np.isclose(means[1], np.e * means[0], rtol=1e-3))
