"""Where an input is unlikely: log p at each position of a map of features."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.bijectors import Positionwise
from tfp_hybrid.models import DensityModel, Encoding
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import Score, check_model


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class LeastLikelyPosition(Score):
    """max_ij -log p(h[i, j]) in nats: how unlikely the least likely position of a map is.

    For flows that are `Positionwise`. A small defect, such as a scratch, changes few positions, and log p(h), the sum
    over all of them, hardly.

    Raises:
      ValueError: When the score is used, if the flow is not `Positionwise`.

    References:
      Gudovskiy, Ishizaka and Kozuka 2022, "CFLOW-AD", section 3.4.
    """

    title = "-log p of the least likely position"

    def of(self, encoding: Encoding) -> tf.Tensor:
        return -tf.reduce_min(_log_probs(encoding), [1, 2])


def log_prob_map(model: DensityModel, x, batch_size: int = 256) -> np.ndarray:
    """Returns log p at each position of a map, in nats, `(n, H, W)`; they sum to log p(x), or log p(features).

    A position at which it overflows has -inf.

    `pictures.heat_maps` shows it. A position stands for the part of the input that the encoder sees there, its
    receptive field, which may be larger than the input divided by H x W.

    Args:
      model: A `DensityModel` whose flow is `Positionwise`.
      x: An array `(n, *input_shape)`, or a `tf.data.Dataset` of batches.
      batch_size: The number of rows in a batch of an array.

    Raises:
      ValueError: If the flow is not `Positionwise`, if p_z is not factorized, or if the model cannot take x.
    """
    check_model(model)
    _check_positions(model)
    return np.concatenate([_log_probs(encoding) for encoding in encode_batches(model, x, batch_size)])


def _log_probs(encoding):
    _check_positions(encoding.model)
    log_dets = encoding.model.flow.inverse_and_log_det_at_positions(encoding.flow_input, condition=encoding.condition)[
        1
    ]
    each = encoding.entry_log_probs
    log_probs = tf.reduce_sum(each, list(range(3, each.shape.rank))) + log_dets
    return tf.where(tf.math.is_nan(log_probs), tf.constant(-np.inf, log_probs.dtype), log_probs)


def _check_positions(model):
    if not isinstance(model.flow, Positionwise):
        raise ValueError(f"model has the flow {model.flow!r}; wanted a `bijectors.Positionwise`.")
