"""Resumable training: checkpoints, and batches that depend only on the seed and the epoch."""

import csv
import pathlib
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import files, workers
from tfp_hybrid.callbacks import BackupAndRestore
from tfp_hybrid.callbacks.backup import place_in
from tfp_hybrid.callbacks.place import Place
from tfp_hybrid.commands.progress import TrainingBar
from tfp_hybrid.pipeline import order_with_quota, plain_order, untuned

HISTORY, CHECKPOINT = "history.csv", "checkpoint.npz"
SAVE_FREQ = 500
"""The number of steps between two saves, which a kill loses at most."""


class Checkpoint(BackupAndRestore):
    """Saves the state of training, and before it the history of the epochs.

    If the run was killed between the two writes, later rows of the history are dropped.

    Args:
      folder: Folder of the two files.
      save_freq: As for `BackupAndRestore`.

    Attributes:
      history: One row for each epoch that the model has been trained.
      place: The place in the data at which training begins, and goes on.
      seconds_before: Training time in seconds before an interruption.
    """

    def __init__(self, folder: pathlib.Path, save_freq: int = SAVE_FREQ):
        super().__init__(folder / CHECKPOINT, save_freq)
        self._folder, self._started = folder, time.perf_counter()
        self.place = place_in(self.path) if self.path.exists() else Place(0)
        self.seconds_before = seconds_of(folder)
        rows = _read_history(folder)[: self.place.epoch]
        self.history = [row | {"epoch": int(row["epoch"])} for row in rows]

    def seconds(self) -> float:
        """Training time in seconds, including time before an interruption."""
        return round(self.seconds_before + time.perf_counter() - self._started, 2)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._keep()
        self.save()

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1} | {name: float(value) for name, value in logs.items()}
        self.history.append(row | {"seconds": self.seconds()})
        self._keep()
        super().on_epoch_end(epoch, logs)

    def _keep(self):
        self._good = self.place.epoch, self.place.batch

    def save_good(self):
        """Saves the last good state, which `StopOnNonFinite` has restored, at its place."""
        self.place.epoch, self.place.batch = self._good
        self.save()

    def save(self):
        """Writes both files."""
        if workers.is_chief(self.model.distribute_strategy):
            with files.replacing(self._folder / HISTORY) as temporary, open(temporary, "w", newline="") as file:
                writer = csv.DictWriter(file, self.history[0] if self.history else ["epoch"])
                writer.writeheader()
                writer.writerows(self.history)
        super().save()


def seconds_of(folder: pathlib.Path) -> float:
    """Returns the training time in seconds up to the last epoch of the history in a folder; 0 if there is none."""
    history = _read_history(folder)
    return history[-1]["seconds"] if history else 0.0


def _read_history(folder):
    if not (folder / HISTORY).exists():
        return []
    with open(folder / HISTORY, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def fit(
    model: keras.Model,
    rows: tuple,
    batch_size: int,
    seed: int,
    epochs: int,
    checkpoint: Checkpoint,
    augment: Callable | None = None,
    quota: tuple[np.ndarray, int] | None = None,
    **options,
):
    """Trains a model from the place of its checkpoint, with a progress bar.

    Args:
      model: A compiled `DensityModel` or `HybridModel`.
      rows: As for `epoch_batches`, as are `batch_size`, `seed` and `augment`.
      batch_size: Batch size.
      seed: Random seed.
      epochs: Number of epochs in total, including those in the history.
      checkpoint: The `Checkpoint`.
      augment: A function, or None.
      quota: As for `epoch_batches`.
      **options: Passed to `model.fit`.

    Raises:
      KeyboardInterrupt: If training is interrupted, after everything is saved.
      FloatingPointError: If the loss becomes NaN or infinite, after the last good state is saved.
    """
    data = epoch_batches(rows, batch_size, seed, lambda: checkpoint.place.epoch, augment, quota)
    steps = int(data.cardinality())
    try:
        with TrainingBar(steps, checkpoint.place.epoch * steps) as bar:
            callbacks = [bar, checkpoint]
            model.fit(data, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0, **options)
    except FloatingPointError:
        checkpoint.save_good()
        raise


def epoch_batches(
    rows: tuple,
    batch_size: int,
    seed: int,
    epoch: Callable[[], int],
    augment: Callable | None = None,
    quota: tuple[np.ndarray, int] | None = None,
) -> tf.data.Dataset:
    """Returns the batches of an epoch: all full batches of the shuffled rows.

    Every random number is determined by the seed, the epoch and the step, so that training resumes with the same
    batches as without the interruption.

    Args:
      rows: A tuple of arrays with the same number of rows, the inputs first.
      batch_size: Batch size.
      seed: Random seed of the order and of `augment`.
      epoch: A function that returns the number of the epoch, whenever the data set is read from its start.
      augment: A function of a batch of inputs and a seed of shape (2,), or None.
      quota: Which rows are few, `(n,)` of booleans, and how many of them each batch has; see `pipeline.batches`.

    Returns:
      A dataset of tuples of tensors.
    """
    count, order_of = _order(len(rows[0]), batch_size, quota)
    steps = count // batch_size
    tensors = tuple(map(tf.convert_to_tensor, rows))

    def plan(_):
        number = tf.ensure_shape(tf.numpy_function(lambda: np.int64(epoch()), [], tf.int64), ())
        seeds = tf.random.split(tf.stack([tf.constant(seed, tf.int64), number]), steps + 1)
        indices = tf.reshape(order_of(seeds[0])[: steps * batch_size], (steps, batch_size))
        return tf.data.Dataset.from_tensor_slices((indices, seeds[1:]))

    def batch(indices, seed):
        x, *others = (tf.gather(tensor, indices) for tensor in tensors)
        return (x if augment is None else augment(x, seed=seed), *others)

    data = tf.data.Dataset.range(1).flat_map(plan).map(batch)
    data = data.apply(tf.data.experimental.assert_cardinality(steps))
    return untuned(data.prefetch(2))


def steps_of_epoch(rows: int, batch_size: int, quota: tuple[np.ndarray, int] | None) -> int:
    """Returns the number of batches of `epoch_batches`."""
    return _order(rows, batch_size, quota)[0] // batch_size


def _order(rows, batch_size, quota):
    """The number of rows of an epoch, and a function of a seed that orders them."""
    if quota is None:
        return rows, plain_order(rows, shuffle=True)
    return order_with_quota(*quota, batch_size, shuffle=True)
