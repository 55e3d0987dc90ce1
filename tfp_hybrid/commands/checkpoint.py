"""Interruptible training: batches that depend on the epoch only, and a checkpoint to resume from."""

import csv
import pathlib
import time

import keras
import tensorflow as tf

from tfp_hybrid import files
from tfp_hybrid.commands.progress import TrainingBar
from tfp_hybrid.models.callbacks import State
from tfp_hybrid.pipeline import untuned

HISTORY, CHECKPOINT = "history.csv", "checkpoint.keras"


class Checkpoint(keras.callbacks.Callback):
    """Saves the model, its optimizer and the history at the end of an epoch, at most once in `seconds`.

    Each file is replaced as a whole, the model last. A run resumes after the model's last epoch; if the run was killed
    between the two, later rows of the history are dropped.

    Args:
      folder: folder of the two files.
      history: a row for each epoch that the model has been trained.
      seconds_before: training time in seconds before an interruption.
      seconds: least time between two checkpoints.
    """

    def __init__(self, folder, history, seconds_before, seconds=10.0):
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
        """Remembers the current state, the end of an epoch, for `return_to_kept`."""
        self._kept = len(self.history), State(self.model)

    def return_to_kept(self):
        """Restores the state at the end of the last epoch; the time since then still counts."""
        epochs, state = self._kept
        del self.history[epochs:]
        if self.history:
            self.history[-1]["seconds"] = self.seconds()
        state.restore()

    def save(self):
        """Writes both files now."""
        with files.replacing(self._folder / HISTORY) as beside, open(beside, "w", newline="") as file:
            writer = csv.DictWriter(file, self.history[0] if self.history else ["epoch"])
            writer.writeheader()
            writer.writerows(self.history)
        with files.replacing(self._folder / CHECKPOINT) as beside:
            self.model.save(beside)


def resumed(folder: pathlib.Path, steps: int) -> tuple[keras.Model, list[dict], float]:
    """The model in the folder's checkpoint, the history up to it, and the training time in seconds.

    Args:
      folder: folder of the checkpoint.
      steps: steps of an epoch.
    """
    model = keras.models.load_model(folder / CHECKPOINT)
    epochs = int(model.optimizer.iterations) // steps
    history = [row | {"epoch": int(row["epoch"])} for row in _read_history(folder)[:epochs]]
    return model, history, seconds_of(folder)


def seconds_of(folder: pathlib.Path) -> float:
    """Training time in seconds up to the last epoch of the history in a folder; 0 without any."""
    history = _read_history(folder) if (folder / HISTORY).exists() else []
    return history[-1]["seconds"] if history else 0.0


def _read_history(folder):
    with open(folder / HISTORY, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def fit(model: keras.Model, data: tf.data.Dataset, steps: int, epochs: int, checkpoint: Checkpoint, **options):
    """`model.fit` with a progress bar and checkpoints, from the last epoch of the checkpoint's history on.

    If training is interrupted or diverges, the model returns to the end of its last epoch, and is saved.

    Args:
      model: a compiled model.
      data: `epoch_batches` from that epoch on.
      steps: steps of an epoch.
      epochs: number of the last epoch.
      checkpoint: the `Checkpoint`, with the history so far.
      **options: further arguments of `fit`.

    Raises:
      KeyboardInterrupt: if training is interrupted, once everything is saved.
      FloatingPointError: if the loss becomes NaN or infinite, once everything is saved.
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


def epoch_batches(rows, batch_size: int, seed: int, epochs: range, augment=None) -> tf.data.Dataset:
    """The batches of several epochs in sequence; each epoch has all full batches of its shuffled rows.

    Every random number follows from the seed, the epoch and the step, so that interrupted training resumes with the
    batches that it would have had.

    Args:
      rows: a tuple of arrays with equally many rows, the inputs first.
      batch_size: rows of a batch.
      seed: random seed of the order and of `augment`.
      epochs: numbers of the epochs.
      augment: a function of a batch of inputs and a seed of shape (2,); or None.

    Returns:
      Tuples of tensors.
    """
    count = len(rows[0])
    steps = count // batch_size
    tensors = tuple(map(tf.convert_to_tensor, rows))

    def plan(epoch):
        seeds = tf.random.split(tf.stack([tf.constant(seed, tf.int64), epoch]), steps + 1)
        order = tf.random.experimental.stateless_shuffle(tf.range(count), seeds[0])
        places = tf.reshape(order[: steps * batch_size], (steps, batch_size))
        return tf.data.Dataset.from_tensor_slices((places, seeds[1:]))

    def batch(places, seed):
        x, *others = (tf.gather(tensor, places) for tensor in tensors)
        return (x if augment is None else augment(x, seed=seed), *others)

    data = tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(plan).map(batch)
    data = data.apply(tf.data.experimental.assert_cardinality(steps * len(epochs)))
    return untuned(data.prefetch(2))
