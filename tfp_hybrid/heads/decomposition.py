"""The uncertainty of p(y|x) of heads on given latents: noise of y, and not knowing the coefficients."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.posterior import NormalInverseGamma

tfd = tfp.distributions


class Decomposition(NamedTuple):
    """The uncertainty of p(y|x) and its two parts, which add up to it; each `(n,)`, or `(n, k)` for k responses.

    Attributes:
      total: The entropy of p(y|x) in nats for classes, its variance for numbers. (For a `Categorical` head, p(y|x) is
        here the average over draws, which is not quite MacKay's approximation that `predict` has.)
      aleatoric: The part that is the noise of y: the mean of the entropy or variance over the posterior.
      epistemic: The part that is not knowing the coefficients: the mutual information of y and the coefficients, or the
        variance of the mean.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


def of_latents(seen: Sequence[tuple]) -> Decomposition:
    """The decomposition for one batch of inputs, by tensors.

    Args:
      seen: The head of each model, and the latents `(n, d)` that it sees.
    """
    if not seen[0][0].classifies:
        parts = zip(*(_of_numbers(*one) for one in seen), strict=True)
        means, aleatoric, epistemic = (tf.stack(column) for column in parts)
        aleatoric = tf.reduce_mean(aleatoric, 0)
        epistemic = tf.reduce_mean(epistemic, 0) + tf.math.reduce_variance(means, 0)
        return Decomposition(aleatoric + epistemic, aleatoric, epistemic)
    probs, weights = zip(*(_of_classes(*one) for one in seen), strict=True)
    probs = tf.concat(probs, 1)
    weights = tf.constant(np.concatenate(weights) / len(seen), probs.dtype)
    total = _entropy(tf.einsum("ns...,s->n...", probs, weights))
    aleatoric = tf.minimum(tf.einsum("ns...,s->n...", _entropy(probs), weights), total)
    return Decomposition(total, aleatoric, total - aleatoric)


def _of_numbers(head, z):
    """The mean of y, `(n,)` or `(n, k)`, and the aleatoric and epistemic part of its variance."""
    if head.is_integrated and isinstance(head.posterior, NormalInverseGamma):
        p_y, spread = head(z), head.posterior.spread(z)
        # The variance of the Student-t is that of the noise times 1 + phi^T C phi.
        share = tf.reshape(1 / (1 + spread), [-1] + [1] * len(head.event_shape))
        variance = p_y.variance()
        return p_y.mean(), variance * share, variance * (1 - share)
    if not head.is_integrated:
        p_y = head.at_point(z)
        return p_y.mean(), p_y.variance(), tf.zeros_like(p_y.mean())
    eta, weights = head.posterior.nodes(z)
    given, weights = head.distribution(head.shaped(eta)), tf.constant(weights, eta.dtype)
    means = given.mean()
    mean = tf.einsum("ns...,s->n...", means, weights)
    epistemic = tf.einsum("ns...,s->n...", (means - mean[:, tf.newaxis]) ** 2, weights)
    return mean, tf.einsum("ns...,s->n...", given.variance(), weights), epistemic


def _of_classes(head, z):
    """The probabilities of the classes given coefficients, `(n, s, ..., K)`, and the weight of each."""
    if not head.is_integrated:
        return _probabilities(head, head.at_point(z[:, tf.newaxis])), np.ones(1)
    eta, weights = head.posterior.nodes(z)
    return _probabilities(head, head.distribution(head.shaped(eta))), weights


def _probabilities(head, given):
    """The probabilities of the classes; of yes and no, there are two."""
    if isinstance(given, tfd.Categorical):
        return given.probs_parameter()
    logits = getattr(given, "distribution", given).logits_parameter()
    return tf.sigmoid(tf.stack([-logits, logits], -1))


def _entropy(probs):
    return tf.maximum(-tf.reduce_sum(tf.math.xlogy(probs, probs), -1), 0)  # but for rounding
