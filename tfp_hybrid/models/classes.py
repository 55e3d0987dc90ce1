"""p(x | y) of a model whose latent distribution is a mixture of classes."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.latents import ClassMixture
from tfp_hybrid.models import data_sets, side_inputs
from tfp_hybrid.models.encoding import Encoding, encode_batches


def mixture_of(model: keras.Model) -> ClassMixture:
    """Returns the latent distribution of a model.

    Raises:
      ValueError: If it is not a `ClassMixture` with the classes of the head.
    """
    mixture = model.distribution.distribution
    if not isinstance(mixture, ClassMixture):
        raise ValueError(
            f"The latent distribution is {type(mixture).__name__}, which has no classes; wanted a "
            "`latents.ClassMixture`, passed to `flow_distribution`."
        )
    count = model.head.num_classes
    if count != mixture.num_classes:
        raise ValueError(
            f"The latent distribution has {mixture.num_classes} classes, and the head {type(model.head).__name__} "
            f"{count or 'none'}; wanted `heads.ClassPosterior(latent)`."
        )
    return mixture


def log_probs_given(encoding: Encoding) -> tf.Tensor:
    """Returns log p(x | k) of all classes k in nats, `(n, K)`."""
    return mixture_of(encoding.model).class_log_probs(encoding.z) + encoding.log_det[:, tf.newaxis]


def log_prob_given(model: keras.Model, x, y, batch_size: int | None) -> np.ndarray:
    """Returns log p(x | y); see `HybridModel.log_prob_given`."""
    y = _classes(y, mixture_of(model))
    if data_sets.is_array(x) and y.shape not in ((), (side_inputs.count(x),)):
        raise ValueError(
            f"y has shape {y.shape} but x has {side_inputs.count(x)} rows; wanted a class, or one for each row."
        )
    found = np.concatenate([log_probs_given(batch) for batch in encode_batches(model, x, batch_size)])
    if y.shape not in ((), (len(found),)):
        raise ValueError(f"y has shape {y.shape} but x has {len(found)} rows; wanted a class, or one for each row.")
    found = found[np.arange(len(found)), y]
    return np.where(np.isnan(found), -np.inf, found)


def given(model: keras.Model, n: int, y):
    """Returns the distribution of n latents of the class y, or of a class each, `(n,)`, and these classes, `(n,)`."""
    mixture = mixture_of(model)
    y = _classes(y, mixture)
    if y.shape not in ((), (n,)):
        raise ValueError(f"y has shape {y.shape}; wanted a class, or {n} of them.")
    y = np.broadcast_to(y, (n,))
    return mixture.given(y), y


def _classes(y, mixture):
    y, last = np.asarray(y), mixture.num_classes - 1
    if not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"y has dtype {y.dtype}; wanted integers, the classes 0 .. {last}.")
    if y.size and (y.min() < 0 or y.max() > last):
        row = int(np.argmax((y.ravel() < 0) | (y.ravel() > last)))
        raise ValueError(f"y is {y.ravel()[row]}{f' in row {row}' if y.ndim else ''}; wanted classes 0 .. {last}.")
    return y
