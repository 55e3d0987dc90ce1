"""A head for responses of which some entries are missing."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.posterior import Posterior
from tfp_hybrid.heads.wrapper import Wrapper

tfd = tfp.distributions


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class PartlyObserved(Wrapper):
    """Several responses of which each row shows only some; an entry of y that is NaN adds nothing to log p(y|x).

        log p(y | z) = sum over the observed j of log p(y_j | z)

    The arms of a bandit are such responses, since only the arm that was pulled gives a reward; so are several
    measurements that are not taken of each row.

    Args:
      head: The head of the whole response, with `event_shape` `(k,)` and one linear predictor for each entry: `Normal`,
        `Bernoulli` or `ExponentialFamily`.
      **kwargs: Passed to `keras.layers.Layer`. `dtype` defaults to that of `head`.

    Raises:
      ValueError: If `head` is another one.
    """

    def __init__(self, head: Head, **kwargs):
        takes = isinstance(head, Head) and head.event_shape and head.predictors == 1 and not head.trains_posterior
        if not takes or isinstance(head, PartlyObserved):
            raise ValueError(
                f"PartlyObserved: `head` is {head!r}; wanted a head of several responses with one linear predictor for "
                "each, such as `heads.Normal((3,))` or `heads.Bernoulli((3,))`. (`Variational` goes outside.)"
            )
        super().__init__(head, **kwargs)

    def distribution(self, eta) -> tfd.Distribution:
        return _PartlyObserved(self.head.distribution(eta).distribution)

    def integrated(self, z, posterior: Posterior) -> tfd.Distribution:
        mixture = Head.integrated(self, z, posterior)  # not that of the head inside, which knows no holes
        return _Mixture(mixture.mixture_distribution, mixture.components_distribution)

    def information(self, eta, y) -> tf.Tensor:
        """The information of the observed entries; that of the others is zero."""
        seen = ~tf.math.is_nan(y)
        mean = self.head.distribution(eta).distribution.mean()  # in the support of every family, as 0 is not
        information = self.head.information(eta, tf.where(seen, y, mean))
        return tf.where(seen[:, :, tf.newaxis] & seen[:, tf.newaxis, :], information, 0)

    def metric(self) -> keras.metrics.Metric:
        return _OfObserved(self.head.metric())

    def adapt(self, y: np.ndarray):
        """Sets data-dependent weights from the observed entries of y; an entry without any counts as zero."""
        seen = [column[~np.isnan(column)] for column in np.asarray(y, float).T]
        mean, stddev = (np.array([of(column) if len(column) else 0.0 for column in seen]) for of in (np.mean, np.std))
        self.head.adapt(np.stack([mean - stddev, mean + stddev]))  # which have that mean and standard deviation

    def check_labels(self, y: np.ndarray):
        """Raises ValueError for labels that the response cannot take; NaN is an entry that was not observed."""
        if np.issubdtype(y.dtype, np.floating):
            y = y[~np.isnan(y)]
        self.head.check_labels(y)


class _PartlyObserved(tfd.Independent):
    """Independent entries, whose log p leaves out those that are NaN."""

    def __init__(self, distribution, **kwargs):
        super().__init__(distribution, 1, **kwargs)

    def log_prob(self, value, name="log_prob", **kwargs):
        # Not of the dtype of the entries, since integers have no NaN.
        return super().log_prob(tf.cast(value, self.distribution.mean().dtype), name, **kwargs)

    def _log_prob(self, value, **kwargs):
        seen = ~tf.math.is_nan(value)
        # Not NaN in the branch that is not taken either, since its gradient is taken.
        log_prob = self.distribution.log_prob(tf.where(seen, value, tf.stop_gradient(self.distribution.mean())))
        return tf.reduce_sum(tf.where(seen, log_prob, 0), -1)


class _Mixture(tfd.MixtureSameFamily):
    """A mixture of `_PartlyObserved`."""

    def log_prob(self, value, name="log_prob", **kwargs):
        return super().log_prob(tf.cast(value, self.mixture_distribution.logits.dtype), name, **kwargs)


class _OfObserved(keras.metrics.Metric):
    """A metric of the entries that were observed."""

    def __init__(self, metric: keras.metrics.Metric):
        super().__init__(name=metric.name)
        self.metric = metric

    def update_state(self, y, y_pred, sample_weight=None):
        seen = tf.cast(~tf.math.is_nan(y), self.dtype)
        if sample_weight is not None:
            seen *= tf.cast(sample_weight, self.dtype)[:, tf.newaxis]
        seen = tf.reshape(seen, [-1])
        y, y_pred = (tf.reshape(values, [-1, 1]) for values in (y, y_pred))
        self.metric.update_state(tf.where(seen[:, tf.newaxis] > 0, y, 0), y_pred, seen)

    def reset_state(self):
        """Begins anew, as the metric inside."""
        self.metric.reset_state()

    def result(self):
        return self.metric.result()
