"""p(x | y) of a model whose latent distribution is a mixture of classes."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.latents import ClassMixture
from tfp_hybrid.models import checks
from tfp_hybrid.models.encoding import Encoding, encode_batches


def mixture_of(model: keras.Model) -> ClassMixture:
    """Returns the latent distribution of a model; raises ValueError if it is not a `ClassMixture`."""
    mixture = model.distribution.distribution
    if not isinstance(mixture, ClassMixture):
        raise ValueError(
            f"The latent distribution is {type(mixture).__name__}, which has no classes; wanted a "
            "`latents.ClassMixture`, passed to `flow_distribution`."
        )
    return mixture


def log_probs_given(encoding: Encoding) -> tf.Tensor:
    """Returns log p(x | k) of all classes k in nats, `(n, K)`."""
    return mixture_of(encoding.model).class_log_probs(encoding.z) + encoding.log_det[:, tf.newaxis]


def log_prob_given(model: keras.Model, x, y, batch_size: int | None) -> np.ndarray:
    """Returns log p(x | y); see `HybridModel.log_prob_given`."""
    mixture_of(model)
    each = np.concatenate([log_probs_given(batch) for batch in encode_batches(model, x, batch_size)])
    y = checks.labels(y, model.head, len(each))
    found = each[np.arange(len(y)), y]
    return np.where(np.isnan(found), -np.inf, found)


def given(model: keras.Model, n: int, y):
    """Returns the distribution of n inputs of the class y, or of a class each, `(n,)`."""
    mixture = mixture_of(model)
    y = np.asarray(y)
    if y.shape not in ((), (n,)) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"y has shape {y.shape} and dtype {y.dtype}; wanted an integer, or {n} of them.")
    if y.size and (y.min() < 0 or y.max() >= mixture.num_classes):
        raise ValueError(f"y holds {y.min()} to {y.max()}; wanted classes 0 .. {mixture.num_classes - 1}.")
    return mixture.given(np.broadcast_to(y, (n,))), np.broadcast_to(y, (n,))
