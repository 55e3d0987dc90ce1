"""Progress bars on the standard error stream, so that results can be piped."""

from collections.abc import Iterator

import keras
import rich.console
import rich.progress

CONSOLE = rich.console.Console(stderr=True)


def bar(*columns) -> rich.progress.Progress:
    """Returns a progress bar with the remaining time, followed by `columns`."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=20),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        *columns,
        console=CONSOLE,
    )


def batches(rows: int, batch_size: int, description: str) -> Iterator[slice]:
    """Yields the slices of consecutive batches of `rows` rows, with a progress bar."""
    with bar() as progress:
        task = progress.add_task(description, total=rows)
        for start in range(0, rows, batch_size):
            yield slice(start, min(start + batch_size, rows))
            progress.update(task, completed=min(start + batch_size, rows))


class TrainingBar(keras.callbacks.Callback):
    """One progress bar for all epochs, with the metrics of the last epoch.

    It is a context manager, so that the bar is removed if `fit` raises an exception.

    Args:
      steps: Number of steps of an epoch.
      done: Number of steps that the model has been trained.
    """

    def __init__(self, steps: int, done: int = 0):
        super().__init__()
        self._steps, self._done = steps, done
        self._bar = bar(rich.progress.TextColumn("{task.fields[metrics]}"))
        self._task = self._bar.add_task("compiling", total=None, metrics="")

    def __enter__(self):
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def on_train_begin(self, logs=None):
        self._bar.update(self._task, total=self.params["epochs"] * self._steps, completed=self._done)

    def on_epoch_begin(self, epoch, logs=None):
        self._done = max(self._done, epoch * self._steps)

    def on_train_batch_end(self, batch, logs=None):
        self._done += 1
        self._bar.update(self._task, completed=self._done, description="training")

    def on_epoch_end(self, epoch, logs=None):
        shown = ("val_nll", "val_accuracy", "val_rmse")
        text = "  ".join(f"{name} {logs[name]:.3f}" for name in shown if name in logs)
        self._bar.update(self._task, metrics=f"epoch {epoch + 1}: {text}")
