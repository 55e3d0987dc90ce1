"""What training shows of calibration and of out-of-distribution detection."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import _compat, arguments
from tfp_hybrid.models import checks, feeding
from tfp_hybrid.uncertainty.detection import auroc
from tfp_hybrid.uncertainty.scores import NegativeLogProb, Score


class OODMonitor(keras.callbacks.Callback):
    """Adds the AUROC of a score on out-of-distribution sets to the logs of each epoch, as "auroc_<name>".

    Logs are what the progress bar, `History`, `CSVLogger`, `TensorBoard` and `EarlyStopping` see; put it before those
    callbacks that should. There is no metric of this name that could tell Keras which way is better, so
    `EarlyStopping`, `ReduceLROnPlateau` and `ModelCheckpoint` raise unless they are told:
    `EarlyStopping(monitor="auroc_letters", mode="max")`.

    Args:
      inside: in-distribution inputs that training does not see, `(n, *event_shape)`.
      outside: from a name to foreign inputs.
      score: a `Score`; -log p(x) by default. It is fitted on `inside` anew at each epoch if it needs it.
      every: measures after the first epoch and each `every` later; in between, the logs repeat the last value.

    Raises:
      ValueError: if `outside` is no dict, if `every` < 1, or, before the first epoch, for inputs that the model cannot
        take.
    """

    def __init__(self, inside, outside: dict, score: Score | None = None, every: int = 1):
        super().__init__()
        if not isinstance(outside, dict) or not outside:
            raise ValueError(f"OODMonitor: `outside` is {outside!r}; wanted a dict from names to inputs.")
        arguments.check_count(every, "OODMonitor: `every`")
        self.inside, self.outside, self.every = inside, outside, every
        self.score = NegativeLogProb() if score is None else score

    def on_train_begin(self, logs=None):
        self._last, self._epochs = {}, 0
        for name, x in {"inside": self.inside, **self.outside}.items():
            if feeding.is_array(x):
                checks.inputs(x, self.model, f"OODMonitor: {name}")

    def on_epoch_end(self, epoch, logs=None):
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

    y_true: integer labels `(n,)`; y_pred: probabilities `(n, K)`, or of class 1, `(n,)`.
    """

    def __init__(self, name="brier", **kwargs):
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, y_pred = _labels_and_probabilities(y_true, y_pred)
        target = tf.one_hot(labels, tf.shape(y_pred)[-1], dtype=y_pred.dtype)
        super().update_state(tf.reduce_sum((y_pred - target) ** 2, -1), sample_weight)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
@_compat.directed("down")
class ExpectedCalibrationError(keras.metrics.Metric):
    """`classification.expected_calibration_error` as a Keras metric, with bins of equal width.

    y_true: integer labels `(n,)`; y_pred: probabilities `(n, K)`, or of class 1, `(n,)`.
    """

    def __init__(self, bins=15, name="ece", **kwargs):
        arguments.check_count(bins, "ExpectedCalibrationError: `bins`")
        super().__init__(name=name, **kwargs)
        self.bins = bins
        self.confidence, self.correct, self.weight = (
            self.add_weight((bins,), "zeros", name=name) for name in ("confidence", "correct", "weight")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
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

    def result(self):
        gap = tf.reduce_sum(tf.abs(tf.convert_to_tensor(self.correct) - tf.convert_to_tensor(self.confidence)))
        return tf.math.divide_no_nan(gap, tf.reduce_sum(tf.convert_to_tensor(self.weight)))

    def get_config(self):
        return super().get_config() | {"bins": self.bins}


def _labels_and_probabilities(y_true, y_pred):
    y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    if y_true.shape.rank not in (1, None) and tuple(y_true.shape[1:]) != (1,):
        raise ValueError(f"y_true has shape {tuple(y_true.shape)}; wanted integer labels, (n,).")
    if y_pred.shape.rank == 1:
        y_pred = tf.stack([1 - y_pred, y_pred], -1)
    if y_pred.shape.rank != 2:
        raise ValueError(f"y_pred has shape {tuple(y_pred.shape)}; wanted probabilities, (n, K) or (n,).")
    return tf.cast(tf.reshape(y_true, [-1]), tf.int32), y_pred
