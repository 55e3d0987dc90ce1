"""`Place`: where training is in its data."""

import dataclasses
from collections.abc import Callable

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
    """

    seed: int
    epoch: int = 0
    batch: int = 0

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


class Follow(keras.callbacks.Callback):
    """Moves a place along with training, which passes over the batches before it.

    Args:
      place: The place at which training begins or goes on.
      initial_epoch: As for `fit`, as is `steps_per_epoch`.
      steps_per_epoch: If given, one iteration over the data goes through all epochs from `initial_epoch` on.
    """

    def __init__(self, place: Place, initial_epoch: int = 0, steps_per_epoch: int | None = None):
        super().__init__()
        self._place, self._passed = place, place.batch
        self._before = max(place.epoch - initial_epoch, 0) * (steps_per_epoch or 0)  # batches of former epochs

    def passing_over(self, train: Callable) -> Callable:
        """Returns Keras' function that trains on the next batches of an iterator, which first passes over some.

        For these, callbacks see the metrics of the epoch so far.
        """

        def function(iterator):
            if not self._before and not self._passed:
                return train(iterator)
            several = min(self._passed, self.model.steps_per_execution)
            try:
                for _ in range(self._before + several):
                    next(iterator)
            except (StopIteration, tf.errors.OutOfRangeError):
                raise ValueError(
                    f"x ended before batch {self._place.batch} of epoch {self._place.epoch}, where training was to go "
                    "on; wanted the data of the interrupted training."
                ) from None
            self._before, self._passed = 0, self._passed - several
            return self.model.get_metrics_result() if several else train(iterator)

        return function

    def on_epoch_begin(self, epoch: int, logs: dict | None = None):
        if epoch != self._place.epoch:
            self._place.epoch, self._place.batch, self._passed = epoch, 0, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None):
        self._place.batch = max(self._place.batch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None):
        self._place.epoch, self._place.batch, self._passed = epoch + 1, 0, 0
