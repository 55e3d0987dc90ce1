"""Interrupted trainings end as uninterrupted ones do."""

import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, integer_model, tiny_model, weights_of

from tfp_hybrid.callbacks import BackupAndRestore


class Killed(Exception):
    pass


class KillAt(keras.callbacks.Callback):
    """Raises after some steps of this `fit`, before the state after them can be saved."""

    def __init__(self, step):
        super().__init__()
        self._left = step

    def on_train_batch_end(self, batch, logs=None):
        self._left -= 1
        if not self._left:
            raise Killed


def all_of(model):
    return [variable.numpy() for variable in (*model.weights, *model.optimizer.variables)]


def assert_same(one, other):
    for a, b in zip(all_of(one), all_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


def integers():
    rng = np.random.default_rng(0)
    model = integer_model()
    return model, rng.integers(model.quantization_levels, size=(30, *model.distribution.event_shape))


def of_integers(callbacks, seed):
    """Dequantization noise and an order of the rows, both of which go on; 5 batches an epoch, of which one is short."""
    keras.utils.set_random_seed(seed)
    model, x = integers()
    model.compile(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    history = model.fit(x, np.arange(30) % 2, batch_size=7, epochs=3, callbacks=callbacks, verbose=0)
    return model, history.history


@pytest.mark.integration
@pytest.mark.parametrize("save_freq, saved", [(4, (1, 3)), ("epoch", (1, 0))])
def test_a_killed_training_ends_as_if_it_had_not_been(tmp_path, save_freq, saved, capsys):
    wanted, history = of_integers([BackupAndRestore(tmp_path / "peace")], seed=0)
    path = tmp_path / "state"
    with pytest.raises(Killed):
        of_integers([KillAt(9), BackupAndRestore(path, save_freq)], seed=0)
    capsys.readouterr()
    got, rest = of_integers([BackupAndRestore(path, save_freq)], seed=1)
    assert f"Going on from {path}: epoch {saved[0]}, batch {saved[1]}." in capsys.readouterr().out
    assert_same(got, wanted)
    assert rest == {name: values[1:] for name, values in history.items()}
    finished, none = of_integers([BackupAndRestore(path)], seed=2)
    assert_same(finished, wanted)
    assert none == {}


def test_a_state_saved_after_the_last_batch_of_an_epoch(tmp_path):
    x, y = blobs(32)
    wanted = tiny_model()
    wanted.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    with pytest.raises(Killed):
        tiny_model().fit(
            x, y, 16, 2, shuffle=False, verbose=0, callbacks=[BackupAndRestore(tmp_path / "a", 2), KillAt(2)]
        )
    got = tiny_model()
    got.fit(x, y, 16, 2, shuffle=False, verbose=0, callbacks=[BackupAndRestore(tmp_path / "a", 2)])
    assert_same(got, wanted)


def test_steps_of_a_data_set_without_end(tmp_path):
    data = tf.data.Dataset.from_tensor_slices(blobs(40)).batch(8).repeat()
    wanted = tiny_model()
    wanted.fit(data, steps_per_epoch=3, epochs=3, verbose=0)
    with pytest.raises(Killed):
        callbacks = [KillAt(6), BackupAndRestore(tmp_path / "a", 1)]
        tiny_model().fit(data, steps_per_epoch=3, epochs=3, verbose=0, callbacks=callbacks)
    got = tiny_model()
    got.fit(data, steps_per_epoch=3, epochs=3, verbose=0, callbacks=[BackupAndRestore(tmp_path / "a", 1)])
    assert_same(got, wanted)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")  # as Keras says of every generator
def test_batches_of_a_generator_are_passed_over(tmp_path):
    x, y = blobs(32)

    def batches():
        for first in range(0, 32, 8):
            yield x[first : first + 8], y[first : first + 8]

    wanted, got, path = tiny_model(), tiny_model(), tmp_path / "state"
    wanted.fit(batches(), verbose=0)
    with pytest.raises(Killed):
        got.fit(batches(), verbose=0, callbacks=[KillAt(3), BackupAndRestore(path, 1)])
    got = tiny_model()
    got.fit(batches(), verbose=0, callbacks=[BackupAndRestore(path)])
    assert_same(got, wanted)


def killed_once(tmp_path):
    path = tmp_path / "state"
    with pytest.raises(Killed):
        tiny_model().fit(*blobs(32), 8, shuffle=False, verbose=0, callbacks=[KillAt(3), BackupAndRestore(path, 1)])
    return path


def test_what_cannot_go_on_is_said_before_any_work(tmp_path):
    path = killed_once(tmp_path)
    (tmp_path / "text").write_text("no state")
    model = tiny_model()
    before = weights_of(model)
    x, y = blobs(32)
    for place, message in ((tmp_path / "text", "is not a state that it has saved"), (tmp_path, "a folder; wanted")):
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[BackupAndRestore(place)])
    with pytest.raises(ValueError, match="another model or optimizer"):
        other, images = integers()
        other.fit(images, np.arange(30) % 2, verbose=0, callbacks=[BackupAndRestore(path)])
    with pytest.raises(ValueError, match="other `metrics`"):
        model.compile(model.optimizer, metrics=["accuracy"])
        model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[BackupAndRestore(path)])
    for one, other in zip(weights_of(model), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_settings_are_refused(tmp_path):
    path = killed_once(tmp_path)
    x, y = blobs(32)
    cases = [
        ((x, y, 16), {}, "batch_size was 8 and is now 16"),
        ((x[:30], y[:30], 8), {}, "rows was 32 and is now 30"),
        ((x, y, 8), {"shuffle": True}, "shuffle was False and is now True"),
        ((x, y, 8), {"steps_per_epoch": 4}, "steps_per_epoch is 4, but x is an array"),
    ]
    for data, options, message in cases:
        with pytest.raises(ValueError, match=message):
            tiny_model().fit(*data, **{"shuffle": False} | options, verbose=0, callbacks=[BackupAndRestore(path)])
    heavier = tiny_model()
    heavier.generative_weight *= 2
    models = [
        (tiny_model(optimizer=keras.optimizers.Adamax()), "optimizer was Adam and is now Adamax"),
        (heavier, "generative_weight was .* and is now"),
    ]
    for model, message in models:
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[BackupAndRestore(path)])


def test_a_data_set_of_another_length_is_refused(tmp_path):
    data = tf.data.Dataset.from_tensor_slices(blobs(32)).batch(8)
    path = tmp_path / "state"
    with pytest.raises(Killed):
        tiny_model().fit(data, verbose=0, callbacks=[KillAt(3), BackupAndRestore(path, 1)])
    with pytest.raises(ValueError, match="batches was 4 and is now 3"):
        tiny_model().fit(data.take(3), verbose=0, callbacks=[BackupAndRestore(path)])


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_that_end_before_the_place(tmp_path):
    path = tmp_path / "state"
    x, y = blobs(32)

    def batches(count):
        return ((x[8 * i : 8 * i + 8], y[8 * i : 8 * i + 8]) for i in range(count))

    model = tiny_model()
    with pytest.raises(Killed):
        model.fit(batches(4), verbose=0, callbacks=[KillAt(4), BackupAndRestore(path, 1)])
    with pytest.raises(ValueError, match="x ended before batch 3 of epoch 0"):
        model.fit(batches(2), verbose=0, callbacks=[BackupAndRestore(path)])
    before = int(model.optimizer.iterations)
    model.fit(x, y, 8, verbose=0)  # passes over nothing
    assert int(model.optimizer.iterations) == before + 4


def test_callbacks_see_metrics_for_batches_that_are_passed_over(tmp_path):
    seen = []
    note = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append((batch, logs["loss"])))
    callbacks = [note, BackupAndRestore(killed_once(tmp_path))]
    tiny_model().fit(*blobs(32), 8, shuffle=False, verbose=0, callbacks=callbacks)
    assert [batch for batch, _ in seen] == [0, 1, 2, 3]
    assert seen[0][1] == seen[1][1] != seen[2][1]


def test_a_signal_after_the_last_step_is_obeyed(tmp_path):
    interrupting = keras.callbacks.LambdaCallback(on_train_end=lambda logs: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        tiny_model().fit(*blobs(8), verbose=0, callbacks=[BackupAndRestore(tmp_path / "a"), interrupting])


def test_a_model_of_keras_is_told_of_keras_callback(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="BackupAndRestore is for models of tfp_hybrid"):
        model.fit(np.zeros((4, 2)), np.zeros(4), verbose=0, callbacks=[BackupAndRestore(tmp_path / "a")])


def test_wrong_arguments():
    for path in (None, "", 3):
        with pytest.raises(ValueError, match="`path` is"):
            BackupAndRestore(path)
    for save_freq in (0, 1.5, "batch", True):
        with pytest.raises(ValueError, match="save_freq`? is"):
            BackupAndRestore("state", save_freq)
    with pytest.raises(ValueError, match="holds 2 of BackupAndRestore"):
        tiny_model().fit(*blobs(8), callbacks=[BackupAndRestore("a"), BackupAndRestore("b")], verbose=0)


def test_a_full_disk_leaves_the_old_state(tmp_path, monkeypatch):
    path = killed_once(tmp_path)
    kept = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="state cannot be written"):
        backup = BackupAndRestore(path, 1)
        tiny_model().fit(*blobs(32), 8, epochs=2, shuffle=False, verbose=0, callbacks=[backup])
    assert path.read_bytes() == kept
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


SIGNALLED = """
import os, signal, sys
import keras
from helpers import blobs, tiny_model
from tfp_hybrid.callbacks import BackupAndRestore

send = lambda batch, logs: os.kill(os.getpid(), int(sys.argv[2])) if batch == 1 else None
callbacks = [keras.callbacks.LambdaCallback(on_train_batch_end=send), BackupAndRestore(sys.argv[1])]
tiny_model().fit(*blobs(64), 8, epochs=2, verbose=0, callbacks=callbacks)
"""


@pytest.mark.integration
def test_sigterm_saves_first(tmp_path, capsys):
    command = [sys.executable, "-c", SIGNALLED, tmp_path / "state", str(int(signal.SIGTERM))]
    assert subprocess.run(command, cwd=pathlib.Path(__file__).parents[1], timeout=300).returncode == -signal.SIGTERM
    tiny_model().fit(*blobs(64), 8, epochs=2, verbose=0, callbacks=[BackupAndRestore(tmp_path / "state")])
    assert "epoch 0, batch 2." in capsys.readouterr().out


def test_control_c_saves_first(tmp_path, capsys):
    def interrupt(batch, logs):
        if batch == 1:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    interrupting = keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)
    with pytest.raises(KeyboardInterrupt):
        tiny_model().fit(*blobs(64), 8, callbacks=[interrupting, BackupAndRestore(tmp_path / "a")], verbose=0)
    assert signal.getsignal(signal.SIGINT) is before
    tiny_model().fit(*blobs(64), 8, callbacks=[BackupAndRestore(tmp_path / "a")], verbose=0)
    assert "epoch 0, batch 2." in capsys.readouterr().out
