"""`Place`: where training is in its data."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf


@dataclasses.dataclass
class Place:
    """Where training is in its data, from which all workers and a resumed training read the same batches.

    Attributes:
      seed: Determines the order of the rows in each epoch.
      epoch: The number of epochs that are done.
      batch: The number of batches of this epoch that are done.
      passed: The number of batches that the next iteration over the data passes over.
    """

    seed: int
    epoch: int = 0
    batch: int = 0
    passed: int = dataclasses.field(default=0, init=False)

    @classmethod
    def new(cls) -> "Place":
        """Returns the start of training; the seed follows `keras.utils.set_random_seed`."""
        return cls(np.random.randint(2**31))

    def numbers(self) -> np.ndarray:
        """Returns seed, epoch and batch, from which `Place` makes the same place."""
        return np.array([self.seed, self.epoch, self.batch], np.int64)

    def order_seed(self) -> np.ndarray:
        """Returns a seed of the order of the rows in this epoch, `(2,)`."""
        return np.array([self.seed, self.epoch], np.int64)

    def without_passed(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the data without the first batches where `passed` says so."""

        def rest(_):
            passed = tf.numpy_function(lambda: np.int64(self.passed), [], tf.int64)
            return data.skip(tf.ensure_shape(passed, ()))

        return tf.data.Dataset.range(1).flat_map(rest).with_options(data.options())


class Follow(keras.callbacks.Callback):
    """Moves a place along with training.

    Args:
      place: The place at which training begins or goes on.
      steps_per_epoch: As for `fit`. With it, one iteration over the data goes through all epochs.
    """

    def __init__(self, place: Place, steps_per_epoch: int | None = None):
        super().__init__()
        self._place, self._steps, self._is_first = place, steps_per_epoch or 0, True

    def on_epoch_begin(self, epoch: int, logs: dict | None = None):
        place = self._place
        if epoch != place.epoch:
            place.epoch, place.batch = epoch, 0
        self._done = place.batch
        place.passed = epoch * self._steps + place.batch if self._is_first else 0
        self._is_first = False

    def on_train_batch_end(self, batch: int, logs: dict | None = None):
        self._place.batch = self._done + batch + 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None):
        self._place.epoch, self._place.batch, self._place.passed = epoch + 1, 0, 0
