"""Resumable training: checkpoints, and batches that depend only on the seed and the epoch."""

import csv
import pathlib
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from tfp_hybrid import files
from tfp_hybrid.commands.progress import TrainingBar
from tfp_hybrid.models.callbacks import State
from tfp_hybrid.pipeline import untuned

HISTORY, CHECKPOINT = "history.csv", "checkpoint.keras"


class Checkpoint(keras.callbacks.Callback):
    """Saves the model, its optimizer and the history at the end of an epoch, at most once every `seconds`.

    Both files are replaced atomically, the model last. A run resumes after the last epoch of the saved model; if the
    run was killed between the two writes, later rows of the history are dropped.

    Args:
      folder: Folder of the two files.
      history: One row for each epoch that the model has been trained.
      seconds_before: Training time in seconds before an interruption.
      seconds: Minimum time in seconds between two checkpoints.
    """

    def __init__(self, folder: pathlib.Path, history: list[dict], seconds_before: float, seconds: float = 10.0):
        super().__init__()
        self._folder, self.history, self.seconds_before, self._seconds = folder, history, seconds_before, seconds
        self._started = self._last = time.perf_counter()

    def seconds(self) -> float:
        """Training time in seconds, including time before an interruption."""
        return round(self.seconds_before + time.perf_counter() - self._started, 2)

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1} | {name: float(value) for name, value in logs.items()}
        self.history.append(row | {"seconds": self.seconds()})
        self.keep()
        if time.perf_counter() - self._last > self._seconds:
            self.save()
            self._last = time.perf_counter()

    def keep(self):
        """Keeps a copy of the state at the end of an epoch, for `return_to_kept`."""
        self._kept = len(self.history), State(self.model)

    def return_to_kept(self):
        """Restores the state at the end of the last epoch; the time since then is still counted."""
        epochs, state = self._kept
        del self.history[epochs:]
        if self.history:
            self.history[-1]["seconds"] = self.seconds()
        state.restore()

    def save(self):
        """Writes both files."""
        with files.replacing(self._folder / HISTORY) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, self.history[0] if self.history else ["epoch"])
            writer.writeheader()
            writer.writerows(self.history)
        with files.replacing(self._folder / CHECKPOINT) as temporary:
            self.model.save(temporary)


def resumed(folder: pathlib.Path, steps: int) -> tuple[keras.Model, list[dict], float]:
    """Loads the checkpoint of an interrupted run.

    Args:
      folder: Folder of the checkpoint.
      steps: Number of steps per epoch.

    Returns:
      The model, the history up to its last epoch, and the training time in seconds.
    """
    model = keras.models.load_model(folder / CHECKPOINT)
    epochs = int(model.optimizer.iterations) // steps
    history = [row | {"epoch": int(row["epoch"])} for row in _read_history(folder)[:epochs]]
    return model, history, seconds_of(folder)


def seconds_of(folder: pathlib.Path) -> float:
    """Returns the training time in seconds up to the last epoch of the history in a folder; 0 if there is none."""
    history = _read_history(folder) if (folder / HISTORY).exists() else []
    return history[-1]["seconds"] if history else 0.0


def _read_history(folder):
    with open(folder / HISTORY, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def fit(model: keras.Model, data: tf.data.Dataset, steps: int, epochs: int, checkpoint: Checkpoint, **options):
    """Trains a model from the last epoch in the checkpoint's history, with a progress bar and checkpoints.

    If training is interrupted or diverges, the model is restored to the end of its last epoch and saved.

    Args:
      model: A compiled model.
      data: Batches from `epoch_batches` for the remaining epochs.
      steps: Number of steps per epoch.
      epochs: Number of epochs in total, including those in the history.
      checkpoint: The `Checkpoint` with the history so far.
      **options: Passed to `model.fit`.

    Raises:
      KeyboardInterrupt: If training is interrupted, after everything is saved.
      FloatingPointError: If the loss becomes NaN or infinite, after everything is saved.
    """
    checkpoint.set_model(model)
    checkpoint.keep()
    checkpoint.save()
    first = len(checkpoint.history)
    if first == epochs:
        return
    try:
        with TrainingBar(first) as bar:
            model.fit(
                data,
                initial_epoch=first,
                epochs=epochs,
                steps_per_epoch=steps,
                callbacks=[bar, checkpoint],
                shuffle=False,  # `epoch_batches` shuffles
                verbose=0,
                **options,
            )
    except (KeyboardInterrupt, FloatingPointError):
        checkpoint.return_to_kept()
        checkpoint.save()
        raise
    checkpoint.save()


def epoch_batches(
    rows: tuple, batch_size: int, seed: int, epochs: range, augment: Callable | None = None
) -> tf.data.Dataset:
    """Returns the batches of several epochs in sequence; each epoch has all full batches of the shuffled rows.

    Every random number is determined by the seed, the epoch and the step, so that training resumes with the same
    batches as without the interruption.

    Args:
      rows: A tuple of arrays with the same number of rows, the inputs first.
      batch_size: Batch size.
      seed: Random seed of the order and of `augment`.
      epochs: Indices of the epochs.
      augment: A function of a batch of inputs and a seed of shape (2,), or None.

    Returns:
      A dataset of tuples of tensors.
    """
    count = len(rows[0])
    steps = count // batch_size
    tensors = tuple(map(tf.convert_to_tensor, rows))

    def plan(epoch):
        seeds = tf.random.split(tf.stack([tf.constant(seed, tf.int64), epoch]), steps + 1)
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seeds[0])
        indices = tf.reshape(order[: steps * batch_size], (steps, batch_size))
        return tf.data.Dataset.from_tensor_slices((indices, seeds[1:]))

    def batch(indices, seed):
        x, *others = (tf.gather(tensor, indices) for tensor in tensors)
        return (x if augment is None else augment(x, seed=seed), *others)

    data = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(plan).map(batch)
    data = data.apply(tf.data.experimental.assert_cardinality(steps * len(epochs)))
    return untuned(data.prefetch(2))
