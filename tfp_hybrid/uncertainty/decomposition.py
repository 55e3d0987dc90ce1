"""`decompose`: how much of the uncertainty of p(y|x) is noise of y, and how much more rows would take away."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.posterior import NormalInverseGamma
from tfp_hybrid.models import HybridModel
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import check_head

tfd = tfp.distributions


class Decomposition(NamedTuple):
    """The uncertainty of p(y|x) and its two parts, which add up to it; each `(n,)`, or `(n, k)` for k responses.

    Attributes:
      total: The entropy of p(y|x) in nats for classes, its variance for numbers.
      aleatoric: The part that is the noise of y: the mean of the entropy or variance over the posterior.
      epistemic: The part that is not knowing the coefficients: the mutual information of y and the coefficients, or the
        variance of the mean.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


def decompose(model: HybridModel | Sequence[HybridModel], x, batch_size: int | None = None) -> Decomposition:
    """Decomposes the uncertainty of p(y|x) into that of y (aleatoric) and that of the model (epistemic).

        classes    H[E p(y|x, B)] = E H[p(y|x, B)] + I[y; B | x]
        numbers    Var[y|x] = E Var[y|x, B] + Var E[y|x, B]

    with B the coefficients of the head, over its posterior. It is exact for a `Normal` head, by quadrature for heads
    with one or two linear predictors, and over fixed quasi-random draws for others.

    Args:
      model: A `HybridModel` whose head has a posterior, from `bayes.fit`; or a list of models of the same response,
        which are then equally probable (each may have a posterior). One model without a posterior has no epistemic
        part.
      x: An array `(n, *input_shape)`, or a `tf.data.Dataset` of batches.
      batch_size: Rows of a batch of an array; 256 if None.

    Raises:
      ValueError: If a model has no head or cannot take x, or if a model of a list has a response of another shape.

    References:
      Depeweg, Hernandez-Lobato, Doshi-Velez and Udluft 2018, "Decomposition of Uncertainty in Bayesian Deep
      Learning"; Houlsby, Huszar, Ghahramani and Lengyel 2011, "Bayesian Active Learning for Classification and
      Preference Learning".
    """
    models = list(model) if isinstance(model, Sequence) else [model]
    if not models:
        raise ValueError("model is an empty list; wanted at least one model.")
    for one in models:
        check_head(one)
        if (type(one.head), one.head.event_shape) != (type(models[0].head), models[0].head.event_shape):
            raise ValueError(
                f"model: the heads are {type(models[0].head).__name__} and {type(one.head).__name__}; wanted models of "
                "the same response."
            )
    parts = zip(*(encode_batches(one, x, batch_size) for one in models), strict=True)
    found = [of_latents([(one.model.head, one.features) for one in batch]) for batch in parts]
    return Decomposition(*(np.concatenate(column) for column in zip(*found, strict=True)))


def of_latents(seen: Sequence[tuple]) -> Decomposition:
    """The decomposition for one batch of inputs, by tensors.

    Args:
      seen: The head of each model, and the latents `(n, d)` that it sees.
    """
    head, z = seen[0]
    if len(seen) == 1 and isinstance(head.posterior, NormalInverseGamma):
        return _exact(head, z)
    given, weights = zip(*(_given_coefficients(*one) for one in seen), strict=True)
    weights = np.concatenate(weights) / len(seen)

    def mean(values):  # over the second axis
        return tf.einsum("ns...,s->n...", values, tf.constant(weights, values.dtype))

    if head.classifies:
        probs = tf.concat([_probabilities(head, one) for one in given], 1)
        total, aleatoric = _entropy(mean(probs)), mean(_entropy(probs))
        return Decomposition(total, aleatoric, total - aleatoric)
    means = tf.concat([one.mean() for one in given], 1)
    aleatoric = mean(tf.concat([one.variance() for one in given], 1))
    epistemic = mean((means - mean(means)[:, tf.newaxis]) ** 2)
    return Decomposition(aleatoric + epistemic, aleatoric, epistemic)


def _given_coefficients(head, z):
    """p(y|x, B) with batch shape `(n, s)` for s coefficients B, and the weight of each."""
    if not head.is_integrated:
        return head.at_point(z[:, tf.newaxis]), np.ones(1)
    eta, weights = head.posterior.nodes(z)
    return head.distribution(head.shaped(eta)), weights


def _exact(head, z):
    """Of a `Normal` head with its exact posterior."""
    posterior = head.posterior
    scale = head.widening * tf.convert_to_tensor(head.response_stddev)
    # The mean of the variance of the noise is infinite if it was found with two rows or fewer.
    rates, rows = tf.convert_to_tensor(posterior.rates), tf.maximum(posterior.concentration - 1, 0)
    noise = rates / rows * tf.reshape(scale, [-1]) ** 2
    epistemic = head.shaped(posterior.spread(z)[:, tf.newaxis] * noise)
    aleatoric = tf.broadcast_to(head.shaped(noise), tf.shape(epistemic))
    return Decomposition(aleatoric + epistemic, aleatoric, epistemic)


def _probabilities(head, given):
    """The probabilities of the classes, `(n, s, ..., K)`; K is 2 for yes and no."""
    if head.event_shape or not isinstance(given, tfd.Categorical):
        yes = given.mean()
        return tf.stack([1 - yes, yes], -1)
    return given.probs_parameter()


def _entropy(probs):
    return -tf.reduce_sum(tf.math.xlogy(probs, probs), -1)
