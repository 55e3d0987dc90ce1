"""`Place`: where training is in its data."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np


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
      steps_per_epoch: As for `fit`. With it, one iteration over the data goes through all epochs.
    """

    def __init__(self, place: Place, steps_per_epoch: int | None = None):
        super().__init__()
        self._place, self._passed = place, place.batch
        self._before = place.epoch * (steps_per_epoch or 0)  # batches of former epochs

    def passing_over(self, train: Callable) -> Callable:
        """Returns Keras' function that trains on the next batches of an iterator, which first passes over some."""

        def function(iterator):
            for _ in range(self._before):
                next(iterator)
            self._before = 0
            if not self._passed:
                return train(iterator)
            for _ in range(min(self._passed, self.model.steps_per_execution)):
                next(iterator)
                self._passed -= 1
            return {} if self._passed else self.model.get_metrics_result()

        return function

    def on_epoch_begin(self, epoch: int, logs: dict | None = None):
        if epoch != self._place.epoch:
            self._place.epoch, self._place.batch, self._passed = epoch, 0, 0

    def on_train_batch_end(self, batch: int, logs: dict | None = None):
        self._place.batch = max(self._place.batch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None):
        self._place.epoch, self._place.batch, self._passed = epoch + 1, 0, 0
