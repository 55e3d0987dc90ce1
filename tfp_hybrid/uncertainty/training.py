"""Calibration metrics and out-of-distribution detection during training."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import _compat, arguments
from tfp_hybrid.models import checks, data_sets
from tfp_hybrid.uncertainty.detection import auroc
from tfp_hybrid.uncertainty.scores import NegativeLogProb, Score


class OODMonitor(keras.callbacks.Callback):
    """Adds the AUROC of a score on out-of-distribution sets to the logs of each epoch, as "auroc_<name>".

    The progress bar, `History`, `CSVLogger`, `TensorBoard` and `EarlyStopping` read these logs. Pass this callback
    before those that should see the AUROC. Keras has no metric of this name that says whether higher is better, so
    `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` raise an error unless they get a `mode`:
    `EarlyStopping(monitor="auroc_letters", mode="max")`.

    Args:
      inside: In-distribution inputs that are not used in training, `(n, *event_shape)`.
      outside: A dictionary from names to out-of-distribution inputs.
      score: A `Score`; -log p(x) by default. If it needs to be fitted, it is fitted to `inside` again in each epoch.
      every: The number of epochs between measurements, starting with the first epoch. In between, the logs repeat the
        last value.

    Raises:
      ValueError: If `outside` is empty or not a dictionary, or if `every` < 1. Before the first epoch, if the model
        cannot take the inputs.
    """

    def __init__(self, inside, outside: dict, score: Score | None = None, every: int = 1):
        super().__init__()
        if not isinstance(outside, dict) or not outside:
            raise ValueError(f"OODMonitor: `outside` is {outside!r}; wanted a dict from names to inputs.")
        arguments.check_count(every, "OODMonitor: `every`")
        self.inside, self.outside, self.every = inside, outside, every
        self.score = NegativeLogProb() if score is None else score

    def on_train_begin(self, logs: dict | None = None):
        """Checks the inputs."""
        self._last, self._epochs = {}, 0
        for name, x in {"inside": self.inside, **self.outside}.items():
            if data_sets.is_array(x):
                checks.inputs(x, self.model, f"OODMonitor: {name}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None):
        """Adds the AUROCs to the logs."""
        if self._epochs % self.every == 0:
            score = self.score.fit(self.model, self.inside)
            inside = score.score(self.model, self.inside)
            for name, x in self.outside.items():
                self._last[f"auroc_{name}"] = auroc(inside, score.score(self.model, x))
        self._epochs += 1
        logs.update(self._last)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
@_compat.directed("down")
class BrierScore(keras.metrics.Mean):
    """`classification.brier` as a Keras metric.

    Args:
      name: The name of the metric.
      **kwargs: Passed to `keras.metrics.Mean`.

    Call arguments:
      y_true: Integer labels, `(n,)`.
      y_pred: Probabilities of the classes, `(n, K)`, or of class 1, `(n,)`.
    """

    def __init__(self, name: str = "brier", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the squared distances of a batch."""
        labels, y_pred = _labels_and_probabilities(y_true, y_pred)
        target = tf.one_hot(labels, tf.shape(y_pred)[-1], dtype=y_pred.dtype)
        super().update_state(tf.reduce_sum((y_pred - target) ** 2, -1), sample_weight)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
@_compat.directed("down")
class ExpectedCalibrationError(keras.metrics.Metric):
    """`classification.expected_calibration_error` as a Keras metric, with bins of equal width.

    Args:
      bins: The number of bins.
      name: The name of the metric.
      **kwargs: Passed to `keras.metrics.Metric`.

    Call arguments:
      y_true: Integer labels, `(n,)`.
      y_pred: Probabilities of the classes, `(n, K)`, or of class 1, `(n,)`.

    Raises:
      ValueError: If `bins` is not a whole number >= 1.
    """

    def __init__(self, bins: int = 15, name: str = "ece", **kwargs):
        arguments.check_count(bins, "ExpectedCalibrationError: `bins`")
        super().__init__(name=name, **kwargs)
        self.bins = bins
        self.confidence, self.correct, self.weight = (
            self.add_weight((bins,), "zeros", name=name) for name in ("confidence", "correct", "weight")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds the confidences and the correct predictions of a batch to their bins."""
        labels, y_pred = _labels_and_probabilities(y_true, y_pred)
        confidence = tf.reduce_max(y_pred, -1)
        correct = tf.cast(tf.argmax(y_pred, -1, tf.int32) == labels, confidence.dtype)
        weight = tf.ones_like(confidence)
        if sample_weight is not None:
            weight *= tf.reshape(tf.cast(sample_weight, weight.dtype), [-1])
        edges = tf.constant(np.linspace(0, 1, self.bins + 1)[1:-1], confidence.dtype)
        places = tf.one_hot(tf.searchsorted(edges, confidence), self.bins, dtype=confidence.dtype)
        for total, values in ((self.confidence, confidence), (self.correct, correct), (self.weight, 1.0)):
            total.assign_add(tf.cast(tf.linalg.matvec(places, weight * values, transpose_a=True), total.dtype))

    def result(self) -> tf.Tensor:
        """Returns the mean over all rows of |accuracy - confidence| of their bin."""
        gap = tf.reduce_sum(tf.abs(tf.convert_to_tensor(self.correct) - tf.convert_to_tensor(self.confidence)))
        return tf.math.divide_no_nan(gap, tf.reduce_sum(tf.convert_to_tensor(self.weight)))

    def get_config(self) -> dict:
        return super().get_config() | {"bins": self.bins}


def _labels_and_probabilities(y_true, y_pred):
    y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    if y_true.shape.rank not in (1, None) and tuple(y_true.shape[1:]) != (1,):
        raise ValueError(f"y_true has shape {tuple(y_true.shape)}; wanted integer labels of shape (n,).")
    if y_pred.shape.rank == 1:
        y_pred = tf.stack([1 - y_pred, y_pred], -1)
    if y_pred.shape.rank != 2:
        raise ValueError(f"y_pred has shape {tuple(y_pred.shape)}; wanted probabilities of shape (n, K) or (n,).")
    return tf.cast(tf.reshape(y_true, [-1]), tf.int32), y_pred
