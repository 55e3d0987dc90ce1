"""`BackupAndRestore`: training that is killed at any moment goes on where it was."""

import contextlib
import json
import os
import pathlib
import signal
import threading
import zipfile
from collections.abc import Iterator

import keras
import numpy as np

from tfp_hybrid import arguments, files, workers
from tfp_hybrid.callbacks.place import Place

FORMAT = 1
_ABOUT = "about"


class BackupAndRestore(keras.callbacks.Callback):
    """Saves the state of training in a file, from which a later `fit` with the same arguments goes on.

    The state is that of the model, its optimizer, its random numbers and the metrics of the epoch so far, and the place
    in the data. The interrupted training ends as it would have ended without the interruption, if the batches of an
    epoch are the same each time: those of arrays are, shuffled or not, and those of a data set are if it does not
    shuffle, or shuffles with a seed and `reshuffle_each_iteration=False`. Batches that the epoch has seen are read and
    passed over. With `steps_per_epoch`, so are those of all epochs before.

    The file is written beside and renamed: a kill at any moment leaves the old state or the new one. Several workers
    save and resume together: the chief writes and reads the file, and gives its state to the others. After training the
    file stays, so a `fit` with the same `epochs` has nothing left to do; remove it to train anew. One file is for one
    training at a time.

    On SIGTERM, with which cluster managers ask for an end, and on SIGINT (Ctrl-C), the state is saved after the current
    step, of all workers if one of them got the signal; then the signal does what it would have done. The same signal
    again does not wait.

    What other callbacks remember, such as the patience of `keras.callbacks.EarlyStopping`, is not saved; a training
    that was stopped early goes on. For the batches that are passed over, callbacks see the metrics of the epoch so far.

    Args:
      path: The file; its folder is created if it is missing. (Of several workers, only the chief uses it.)
      save_freq: "epoch", or the number of steps between two saves, which a kill loses at most.

    Raises:
      ValueError: If `save_freq` is neither; in `fit`, if the file is not such a state, or is that of another model or
        of a `fit` with other arguments.

    Example:

    >>> import tempfile
    >>> from tfp_hybrid import callbacks
    >>> model = DensityModel(flow_distribution(bijectors.RealNVP((2,))))
    >>> model.compile(keras.optimizers.Adam(1e-3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backup = callbacks.BackupAndRestore(f"{folder}/training.state", save_freq=100)
    ...     history = model.fit(np.zeros((64, 2)), epochs=2, callbacks=[backup], verbose=0)
    >>> history.epoch
    [0, 1]
    """

    def __init__(self, path: os.PathLike | str, save_freq: str | int = "epoch"):
        super().__init__()
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise ValueError(f"BackupAndRestore: `path` is {path!r}; wanted the path of a file.")
        if isinstance(save_freq, str) and save_freq != "epoch":
            raise ValueError(f"BackupAndRestore: `save_freq` is {save_freq!r}; wanted 'epoch' or a number of steps.")
        if save_freq != "epoch":
            arguments.check_count(save_freq, "save_freq", 1)
        self.path, self.save_freq, self._strategy = pathlib.Path(path), save_freq, None

    @contextlib.contextmanager
    def resuming(self, model: keras.Model, settings: dict) -> Iterator[Place]:
        """Restores the state in the file, if there is one, and returns a context manager in which SIGTERM saves first.

        Args:
          model: A compiled model of this package, whose `fit` calls this.
          settings: The arguments of `fit` that must be the same when training goes on.

        Yields:
          The place in the data at which to go on.
        """
        self.set_model(model)
        self._strategy = model.distribute_strategy
        if self.path.is_dir():
            raise ValueError(f"BackupAndRestore: `path` is {self.path}, a folder; wanted the path of a file.")
        if settings.get("steps_per_epoch") and "rows" in settings:
            raise ValueError(
                f"steps_per_epoch is {settings['steps_per_epoch']}, but x is an array, which training could not go on "
                "with at a step; wanted a `tf.data.Dataset`, or no `steps_per_epoch`."
            )
        if workers.is_chief(self._strategy):
            files.check_writable(self.path.parent)
        model.build_metrics()
        optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self._settings = {"optimizer": type(optimizer).__name__} | settings
        self.place, self._metric_values = self._restored()
        self._unsaved, self._before, self._signal = 0, self.place.batch, 0
        try:
            with _handling((signal.SIGTERM, signal.SIGINT), self._on_signal) as former:
                self._former = former
                yield self.place
        finally:
            if self._signal:  # it came after the last step
                self._obey(self._signal)

    def _on_signal(self, number, frame):
        if number == self._signal:  # for the second time
            self._obey(number)
        self._signal = number

    def _obey(self, number):
        """Does what the signal would have done."""
        self._signal = 0
        signal.signal(number, self._former.get(number, signal.SIG_DFL))
        signal.raise_signal(number)

    def on_train_begin(self, logs: dict | None = None):
        if self._strategy is None:
            raise ValueError(
                f"BackupAndRestore is for models of tfp_hybrid, not {self.model!r}; wanted Keras' own callback for it."
            )

    def on_epoch_begin(self, epoch: int, logs: dict | None = None):
        self._before = self.place.batch
        if self._before:  # an interrupted epoch goes on
            for variable, value in zip(self._metric_variables(), self._metric_values, strict=True):
                variable.assign(value)

    def on_train_batch_end(self, batch: int, logs: dict | None = None):
        self._unsaved += self.place.batch - self._before
        self._before = self.place.batch
        self._save_if(self.save_freq != "epoch" and self._unsaved >= self.save_freq)

    def on_epoch_end(self, epoch: int, logs: dict | None = None):
        self._save_if(self.save_freq == "epoch" or self.place.epoch == self.params.get("epochs"))

    def _save_if(self, is_due):
        asked = workers.any_worker(self._strategy, bool(self._signal))
        if asked or is_due:
            self.save()
        if asked:
            self._obey(self._signal or signal.SIGTERM)

    def _variables(self):
        """All that training changes, but for metrics."""
        metrics = {id(variable) for variable in self._metric_variables()}
        variables = [*self.model.changing_variables, *self.model.optimizer.variables]
        return [variable for variable in variables if id(variable) not in metrics]

    def _metric_variables(self):
        return [variable for metric in self.model.metrics for variable in metric.variables]

    def save(self):
        """Saves the state now. All workers must call it, since metrics are sums over workers."""
        metrics = [keras.ops.convert_to_numpy(variable) for variable in self._metric_variables()]
        self._unsaved = 0
        if workers.is_chief(self._strategy):
            variables = self._variables()
            arrays = [*map(keras.ops.convert_to_numpy, variables), *metrics]
            about = {"format": FORMAT, "shapes": _shapes(variables), "place": self.place.numbers().tolist()}
            about["settings"] = self._settings
            with files.replacing(self.path) as temporary, open(temporary, "wb") as file:
                named = {str(number): _storable(array) for number, array in enumerate(arrays)}
                np.savez(file, **{_ABOUT: json.dumps(about)}, **named)

    def _restored(self):
        """Gives the variables of all workers the chief's state, or that in its file; returns place and metrics."""
        variables, metrics = self._variables(), self._metric_variables()
        place = Place.new()
        values = [keras.ops.convert_to_numpy(variable) for variable in variables]
        metric_values = [np.zeros(metric.shape, metric.dtype) for metric in metrics]
        if workers.is_chief(self._strategy) and self.path.exists():
            place, values, metric_values = self._read(variables, metrics)
            print(f"Going on from {self.path}: epoch {place.epoch}, batch {place.batch}.", flush=True)
        numbers, *state = workers.of_chief(self._strategy, [place.numbers(), *values, *metric_values])
        for variable, value in zip(variables, state, strict=False):
            variable.assign(value)
        return Place(*map(int, numbers)), state[len(variables) :]

    def _read(self, variables, metrics):
        about, place, arrays = _contents(self.path)
        if about.get("format") != FORMAT or about.get("shapes") != _shapes(variables):
            raise ValueError(
                f"BackupAndRestore: {self.path} is the state of another model or optimizer; wanted that of "
                f"{self.model!r}. Remove it, or use another `path`."
            )
        former = about["settings"]
        changed = [
            f"{name} was {former.get(name)} and is now {value}"
            for name, value in self._settings.items()
            if former.get(name) != value
        ]
        if changed:
            raise ValueError(
                f"BackupAndRestore: {self.path} is of a training with other settings: {'; '.join(changed)}. Wanted the "
                "same, or another `path`."
            )
        values, metric_values = arrays[: len(variables)], arrays[len(variables) :]
        if [value.shape for value in metric_values] != [tuple(metric.shape) for metric in metrics]:
            raise ValueError(
                f"BackupAndRestore: {self.path} was saved with other `metrics` in `compile`; wanted the same."
            )
        return place, values, metric_values


def place_in(path: os.PathLike | str) -> Place:
    """Returns the place at which a training will go on from a file of `BackupAndRestore`."""
    return _contents(path)[1]


def _contents(path):
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(str(archive[_ABOUT]))
            arrays = [archive[str(number)] for number in range(len(archive.files) - 1)]
            about["settings"] = dict(about["settings"])
            return about, Place(*map(int, about["place"])), arrays
    except (OSError, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        raise ValueError(
            f"BackupAndRestore: {path} is not a state that it has saved; remove it, or use another `path`."
        ) from None


def _shapes(variables):
    return [[*variable.shape] for variable in variables]


def _storable(array):
    """NumPy stores the dtypes that it knows itself; float32 holds all numbers of the others."""
    return array if array.dtype.isbuiltin else array.astype("float32")


@contextlib.contextmanager
def _handling(numbers, handler):
    """A context of the former handlers, in which the process handles signals; a thread cannot, so nothing changes."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if is_main}
    try:
        yield before
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextlib.contextmanager
def resuming(
    callbacks: list | keras.callbacks.CallbackList, model: keras.Model, settings: dict
) -> Iterator[Place | None]:
    """Returns a context manager of the place at which to go on: that of a `BackupAndRestore` among the callbacks.

    Without one, it is a new place, for several workers, who have to read the same batches; otherwise None.

    Args:
      callbacks: The callbacks of a `fit`.
      model: The model.
      settings: As for `BackupAndRestore.resuming`.
    """
    found = [one for one in getattr(callbacks, "callbacks", callbacks) if isinstance(one, BackupAndRestore)]
    if len(found) > 1:
        raise ValueError(f"callbacks holds {len(found)} of BackupAndRestore; wanted one.")
    if found:
        with found[0].resuming(model, settings) as place:
            yield place
    elif workers.is_multi_worker(model.distribute_strategy):
        (numbers,) = workers.of_chief(model.distribute_strategy, [Place.new().numbers()])
        yield Place(*map(int, numbers))
    else:
        yield None
