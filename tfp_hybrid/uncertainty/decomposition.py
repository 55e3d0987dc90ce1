"""`decompose`: how much of the uncertainty of p(y|x) is noise of y, and how much more rows would take away."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.posterior import NormalInverseGamma
from tfp_hybrid.models import HybridModel, feeding
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import check_head

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


def decompose(model: HybridModel | Sequence[HybridModel], x, batch_size: int | None = None) -> Decomposition:
    """Decomposes the uncertainty of p(y|x) into that of y (aleatoric) and that of the model (epistemic).

        classes    H[E p(y|x, B)] = E H[p(y|x, B)] + I[y; B | x]
        numbers    Var[y|x] = E Var[y|x, B] + Var E[y|x, B]

    with B the coefficients of the head, over its posterior. It is exact for a `Normal` head, by quadrature for heads
    with one or two linear predictors, and over fixed quasi-random draws for others.

    Args:
      model: A `HybridModel` whose head has a posterior, from `bayes.fit` or `heads.Variational`; or a list of models of
        the same response, which are then equally probable (each may have a posterior). One model without a posterior
        has no epistemic part.
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
        if _response(one.head) != _response(models[0].head):
            raise ValueError(
                f"model: the heads are {_response(models[0].head)} and {_response(one.head)}; wanted models of the "
                "same response."
            )
    if len(models) > 1 and not feeding.is_array(x):
        raise ValueError(f"x is a {type(x).__name__}; wanted an array, since each of the models reads it.")
    parts = zip(*(encode_batches(one, x, batch_size) for one in models), strict=True)
    found = [of_latents([(one.model.head, one.features) for one in batch]) for batch in parts]
    return Decomposition(*(np.concatenate(column) for column in zip(*found, strict=True)))


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


def _response(head):
    """What the response of a head is, in words."""
    head = head.unwrapped()
    kind = getattr(head, "num_classes", None) or type(getattr(head, "family", head)).__name__
    return f"{type(head).__name__} ({kind}) of shape {head.event_shape}"


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
