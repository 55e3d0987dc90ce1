"""Scores by p(y|x)."""

import keras
import tensorflow as tf

from tfp_hybrid import heads
from tfp_hybrid.heads import decomposition
from tfp_hybrid.models import Encoding
from tfp_hybrid.uncertainty.scores.base import Score, check_head

_register = keras.saving.register_keras_serializable(package="tfp_hybrid")


@_register
class PredictiveEntropy(Score):
    """The entropy of p(y|x) in nats: the uncertainty of the prediction, which does not depend on p(x)."""

    title = "entropy of p(y|x)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        return response_statistic(encoding, "entropy")


@_register
class MaxProbability(Score):
    """1 - max_y p(y|x), for classifiers; for k labels, the probability of the most probable combination.

    References:
      Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples".
    """

    title = "1 - max p(y|x)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        check_head(encoding.model)
        if not encoding.model.head.classifies:
            head = type(encoding.model.head).__name__
            raise ValueError(f"MaxProbability: the head is {head}; wanted a classifier.")
        return -tf.math.expm1(encoding.p_y.log_prob(encoding.p_y.mode()))


@_register
class PredictiveVariance(Score):
    """The variance of p(y|x), for regression; summed over the entries of a vector response."""

    title = "variance of p(y|x)"

    def of(self, encoding: Encoding) -> tf.Tensor:
        check_head(encoding.model)
        if encoding.model.head.classifies:
            raise ValueError(
                f"PredictiveVariance: the head is {type(encoding.model.head).__name__}; wanted a regressor."
            )
        variance = response_statistic(encoding, "variance")
        axes = list(range(1, variance.shape.rank))
        return tf.reduce_sum(variance, axes)


@_register
class Energy(Score):
    """-log sum_k exp(eta_k), with eta the linear predictors of a classifier of K classes.

    Inputs that activate no class have a high energy, also where the softmax, which sees only differences, is sure.

    References:
      Liu, Wang, Owens and Li 2020, "Energy-based Out-of-distribution Detection", eq. 4.
    """

    title = "energy"

    def of(self, encoding: Encoding) -> tf.Tensor:
        check_head(encoding.model)
        if not isinstance(encoding.model.head.unwrapped(), heads.Categorical | heads.ClassPosterior):
            head = type(encoding.model.head.unwrapped()).__name__
            raise ValueError(f"Energy: the head is {head}; wanted Categorical.")
        head = encoding.model.head
        if head.is_integrated:
            return -tf.reduce_logsumexp(head.posterior.linear_predictor(encoding.features), -1)
        return -tf.reduce_logsumexp(encoding.p_y.logits_parameter(), -1)


@_register
class Epistemic(Score):
    """The part of the uncertainty of p(y|x) that more rows would take away, by `decompose`; the sum over k responses.

    In nats for classes, a variance for numbers. Zero without a posterior of the head.
    """

    title = "epistemic uncertainty"

    def of(self, encoding: Encoding) -> tf.Tensor:
        check_head(encoding.model)
        return _summed(decomposition.of_latents([(encoding.model.head, encoding.features)]).epistemic)


@_register
class Aleatoric(Score):
    """The part of the uncertainty of p(y|x) that is the noise of y, by `decompose`; the sum over k responses."""

    title = "aleatoric uncertainty"

    def of(self, encoding: Encoding) -> tf.Tensor:
        check_head(encoding.model)
        return _summed(decomposition.of_latents([(encoding.model.head, encoding.features)]).aleatoric)


def _summed(values):
    return tf.reduce_sum(values, list(range(1, values.shape.rank)))


def response_statistic(encoding, method):
    """Returns the entropy, variance or mode of p(y|x)."""
    check_head(encoding.model)
    try:
        return tf.convert_to_tensor(getattr(encoding.p_y, method)())
    except NotImplementedError:
        head = type(encoding.model.head).__name__
        raise ValueError(f"The {method} of p(y|x) is not known for the head {head}; wanted another score.") from None
