import itertools
import json
import re
import shutil
import signal

import keras
import numpy as np
import pandas as pd
import pytest
from helpers import contrast
from same_run import assert_same_run

from tfp_hybrid import datasets, files, recipes
from tfp_hybrid.callbacks.backup import place_in
from tfp_hybrid.commands import checkpoint, fitting, train
from tfp_hybrid.datasets import outliers
from tfp_hybrid.models import HybridModel

pytestmark = pytest.mark.integration

TINY = {"dataset": "simulation", "epochs": 2, "ood": ("noise",)}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "simulation"
    return folder, train(out=folder, **TINY)


def test_a_run_leaves_its_files_and_nothing_else(run):
    folder, metrics = run
    assert {file.name for file in folder.iterdir()} == {
        "model.keras",
        "rejector.keras",
        "metrics.json",
        "history.csv",
        "report.html",
    }
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert {"config", "seconds", "test", "score", "ood", "versions"} <= metrics.keys() and metrics[
        "score"
    ] == "combined"
    assert {"rmse", "nll", "log_prob_x"} <= metrics["test"].keys()
    assert metrics["ood"]["noise"].keys() == {"auroc", "fpr95", "log_prob_auroc", "nll", "entropy"}
    history = pd.read_csv(folder / "history.csv")
    assert history["epoch"].tolist() == [1, 2] and {"loss", "val_nll"} <= set(history)


def test_the_saved_model_is_the_one_that_was_measured(run):
    folder, metrics = run
    x, y = datasets.load("simulation").test
    model = keras.models.load_model(folder / "model.keras")
    assert model.log_prob(x).mean() == pytest.approx(metrics["test"]["log_prob_x"], rel=1e-5)
    assert np.sqrt(np.mean((model.predict(x, verbose=0) - y) ** 2)) == pytest.approx(metrics["test"]["rmse"], rel=1e-4)


def test_the_report_holds_its_pictures_and_numbers(run):
    folder, metrics = run
    report = (folder / "report.html").read_text()
    assert report.count("<svg") == 5 and report.count("aria-label") >= 4
    assert not re.search('(src|href)="(?!data:|#)', report) and "url(http" not in report, "self-contained"
    assert f"{metrics['test']['rmse']:.4f}" in report and f"{metrics['ood']['noise']['auroc']:.4f}" in report


def test_the_report_leads_with_the_answer(run):
    report = (run[0] / "report.html").read_text()
    text = " ".join(re.sub("<[^>]*>", " ", report[report.index("<body>") :]).split())
    answer = re.search(r"It answers ([\d.]+) % of the test rows, with a root-mean-square error of ([\d.]+)\.", text)
    assert 90 < float(answer[1]) <= 100 and float(answer[2]) > 0
    noise, _ = outliers.load_outliers("noise", datasets.load("simulation"), None, 0)
    refused = keras.models.load_model(run[0] / "rejector.keras").predict(noise, verbose=0)["abstain"].mean()
    assert 0 < refused < 0.95
    assert f"Do not rely on it for noise, of which it answers {100 * (1 - refused):.1f} % as if" in text
    assert answer.start() < text.index("Density of the inputs") < text.index("Learning curves")


def test_the_report_fits_a_phone_and_the_dark(run):
    report = (run[0] / "report.html").read_text()
    assert 'name="viewport"' in report and "prefers-color-scheme: dark" in report
    assert report.count("<table>") == report.count('<div class="scroll"><table>')
    themes = re.findall(r":root \{(.*?)\}", report)
    assert len(themes) == 2
    for theme in themes:
        colours = dict(re.findall(r"--(\w+): (#\w+);", theme))
        for text, ground in itertools.product(("text", "quiet"), ("page", "accent")):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)


@pytest.mark.nightly
def test_the_seed_makes_a_run_repeatable(run, tmp_path):
    _, metrics = run
    again = train(out=tmp_path / "again", **TINY)
    assert again["test"] == metrics["test"]
    other = train(out=tmp_path / "other", **TINY, seed=1)
    assert other["test"] != metrics["test"]


@pytest.mark.nightly
def test_a_killed_run_resumes_where_it_was(tmp_path, monkeypatch):
    folder, settings = tmp_path / "run", {"dataset": "simulation", "epochs": 3, "ood": ()}
    on_epoch_end = fitting.Checkpoint.on_epoch_end

    def killed_in_the_third(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        if epoch == 1:
            self.save()
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting.Checkpoint, "on_epoch_end", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        train(out=folder, **settings)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2]
    assert (place_in(folder / "checkpoint.npz").epoch, place_in(folder / "checkpoint.npz").batch) == (2, 0)

    monkeypatch.setattr(fitting.Checkpoint, "on_epoch_end", on_epoch_end)
    with pytest.raises(ValueError, match="seed was 0 and is now 5"):
        train(out=folder, **settings, seed=5, resume=True)
    train(out=folder, **settings, resume=True)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2, 3]
    assert int(keras.models.load_model(folder / "model.keras").optimizer.iterations) == 3 * 20
    with pytest.raises(ValueError, match="no interrupted run"):
        train(out=folder, **settings, resume=True)


def assert_finite(checkpoint, epoch):
    """It is of the start of an epoch, and holds numbers only."""
    place = place_in(checkpoint)
    assert (place.epoch, place.batch) == (epoch, 0)
    with np.load(checkpoint) as arrays:
        assert all(np.isfinite(arrays[name]).all() for name in arrays.files if name.isdigit())


def test_a_loss_that_diverges_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    step = HybridModel.train_step

    def diverging(self, data):
        logs = step(self, data)
        late = self.optimizer.iterations > 30  # in the second epoch
        return logs | {"loss": keras.ops.where(late, np.nan, logs["loss"])}

    monkeypatch.setattr(HybridModel, "train_step", diverging)
    with pytest.raises(FloatingPointError, match="at step 31"):
        train("simulation", folder, epochs=3, ood=())
    assert_finite(folder / "checkpoint.npz", epoch=1)
    assert not (folder / "model.keras").exists()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"dataset": "imagenet"}, "'imagenet' is unknown; wanted one of digits"),
        ({"dataset": "digits", "epochs": 0}, "--epochs is 0"),
        ({"dataset": "digits", "epochs": 1.5}, "--epochs is 1.5; wanted a whole number"),
        ({"dataset": "digits", "batch_size": -3}, "--batch-size is -3"),
        ({"dataset": "digits", "batch_size": 5000}, "--batch-size is 5000, but digits has 1000 .* at most as many"),
        ({"dataset": "digits", "generative_weight": -1.0}, "--generative-weight is -1.0"),
        ({"dataset": "digits", "generative_weight": float("nan")}, "--generative-weight is nan"),
        ({"dataset": "digits", "learning_rate": 0.0}, "--learning-rate is 0.0"),
        ({"dataset": "digits", "ood": ("mnist8",)}, "the out-of-distribution set 'mnist8' is unknown"),
    ],
)
def test_bad_settings_are_named_before_anything_is_written(settings, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        train(out=tmp_path, **TINY)
    with pytest.raises(ValueError, match="is a file"):
        train(out=tmp_path / "mine.txt", **TINY)
    with pytest.raises(ValueError, match="cannot be written"):
        train(out=tmp_path / "mine.txt" / "below", **TINY)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.nightly
def test_a_kill_between_the_two_files_loses_no_epoch(tmp_path, monkeypatch):
    """The history is one epoch ahead of the state, whose own place decides."""
    folder, settings = tmp_path / "run", {"dataset": "simulation", "epochs": 3, "ood": ()}
    monkeypatch.setattr(fitting.Checkpoint.__init__, "__defaults__", (20,))
    replace = files.os.replace

    def killed(source, target):
        if target.name == checkpoint.CHECKPOINT and "\n2," in (folder / checkpoint.HISTORY).read_text():
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        train(out=folder, **settings)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2]
    monkeypatch.setattr(files.os, "replace", replace)
    train(out=folder, **settings, resume=True)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2, 3]
    assert int(keras.models.load_model(folder / "model.keras").optimizer.iterations) == 3 * 20


@pytest.mark.nightly
def test_a_run_that_diverges_at_once_leaves_a_model_and_resumes_with_a_lower_rate(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(FloatingPointError, match="learning rate"):
        train("simulation", folder, epochs=2, ood=(), learning_rate=1e30)
    assert_finite(folder / "checkpoint.npz", epoch=0)
    metrics = train("simulation", folder, epochs=2, ood=(), learning_rate=0.01, resume=True)
    assert np.isfinite(metrics["test"]["nll"])


@pytest.fixture(scope="module")
def interrupted_once(tmp_path_factory):
    """The folder of a run of two epochs that got SIGINT in the middle of the second."""

    def interrupt(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 27:
            signal.raise_signal(signal.SIGINT)
        on_train_batch_end(self, batch, logs)

    folder, on_train_batch_end = tmp_path_factory.mktemp("interrupted") / "run", fitting.Checkpoint.on_train_batch_end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting.Checkpoint, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(out=folder, **TINY)
    return folder


@pytest.fixture
def interrupted(interrupted_once, tmp_path):
    """A copy of it."""
    return shutil.copytree(interrupted_once, tmp_path / "interrupted")


def test_an_interruption_saves_the_last_step(interrupted):
    assert pd.read_csv(interrupted / "history.csv")["epoch"].tolist() == [1]
    place = place_in(interrupted / "checkpoint.npz")
    assert (place.epoch, place.batch) == (1, 7)
    assert {path.name for path in interrupted.iterdir()} == {"history.csv", "checkpoint.npz", "config.json"}


def test_an_interrupted_run_ends_as_if_it_had_not_been(interrupted, run):
    """Killed after the history of the second epoch was written, whose seconds count, and before the model."""
    last = (interrupted / "history.csv").read_text().splitlines()[-1].split(",")
    with open(interrupted / "history.csv", "a") as file:
        file.write(",".join(["2", *last[1:-1], "1000.0"]) + "\n")
    seconds = train(out=interrupted, **TINY, resume=True)["seconds"]
    assert seconds >= pd.read_csv(interrupted / "history.csv")["seconds"].iloc[-1] - 0.1 >= 999.9
    assert_same_run(interrupted, run[0])


def test_the_epoch_decides_the_batches():
    rows = (np.arange(100), np.arange(100) % 7)
    numbers, epochs = iter((0, 1, 0)), []
    data = checkpoint.epoch_batches(rows, 8, 3, lambda: next(numbers))
    for _ in range(3):
        epochs.append(np.stack([x for x, _ in data]))
        assert epochs[-1].shape == (12, 8) and np.unique(epochs[-1]).size == 96, "no row twice in an epoch"
    np.testing.assert_array_equal(epochs[0], epochs[2])
    assert (epochs[0] != epochs[1]).any(), "another order in each epoch"


def test_a_full_disk_leaves_the_last_checkpoint(interrupted):
    resource = pytest.importorskip("resource")
    kept, (soft, hard) = (interrupted / "checkpoint.npz").read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, hard))
    try:
        with pytest.raises(OSError, match="checkpoint.npz cannot be written"):
            train(out=interrupted, **TINY, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (interrupted / "checkpoint.npz").read_bytes() == kept
    assert {path.name for path in interrupted.iterdir()} == {"history.csv", "checkpoint.npz", "config.json"}


def test_a_run_killed_while_it_tidied_up_is_not_trained_again(run, interrupted, tmp_path, monkeypatch):
    (folder, metrics), copy = run, tmp_path / "run"
    monkeypatch.setattr(fitting.Run, "fit", lambda self: pytest.fail("trained again"))
    for killed_at in ("checkpoint.npz", "config.json"):
        shutil.copytree(folder, copy)
        for name in ("checkpoint.npz", "config.json"):
            shutil.copy(interrupted / name, copy)

        def killed(path, remove=files.remove, killed_at=killed_at):
            if path.name == killed_at:
                raise KeyboardInterrupt
            remove(path)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(files, "remove", killed)
            fitting.finish(copy)
        with pytest.raises(ValueError, match="seed was 0 and is now 5"):
            train(out=copy, **TINY, seed=5, resume=True)
        assert json.dumps(train(out=copy, **TINY, resume=True)) == json.dumps(metrics)
        assert {file.name for file in copy.iterdir()} == {file.name for file in folder.iterdir()}
        shutil.rmtree(copy)


def test_a_run_killed_before_it_wrote_anything_starts_and_resumes(tmp_path):
    for name in (files.LOCK, ".new_config.json"):
        (tmp_path / name).touch()
    for resume in (False, True):
        fitting.check_folder(tmp_path, resume)
    (tmp_path / "mine.txt").touch()
    for resume, message in ((False, "is not empty"), (True, "no interrupted run")):
        with pytest.raises(ValueError, match=message):
            fitting.check_folder(tmp_path, resume)
    with pytest.raises(ValueError, match="nothing does not exist"):
        train(out=tmp_path / "nothing", **TINY, resume=True)
    assert not (tmp_path / "nothing").exists()


def test_a_folder_takes_one_run_at_a_time(tmp_path):
    with files.locked(tmp_path / "run"), pytest.raises(ValueError, match="run is in use by process"):
        train(out=tmp_path / "run", **TINY)


@pytest.mark.parametrize("text", ["", "[1, 2]", "null"])
def test_damaged_settings_are_named(text, interrupted):
    (interrupted / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json is damaged"):
        train(out=interrupted, **TINY, resume=True)


def test_half_of_each_batch_has_labels():
    few = np.arange(30) % 10 == 3  # rows 3, 13, 23
    quota = few, 4
    data = checkpoint.epoch_batches((np.arange(30),), 8, 0, lambda: 0, quota=quota)
    rows = np.array([batch for (batch,) in data.as_numpy_iterator()])
    assert rows.shape == (checkpoint.steps_of_epoch(30, 8, quota), 8) == (6, 8)
    assert few[rows].sum(1).tolist() == [4] * 6
    others = rows[~few[rows]]
    assert len(set(others)) == len(others) == 24  # those of the batches that are full


def test_few_labels(tmp_path):
    metrics = train(out=tmp_path / "run", labels=20, **TINY)
    assert metrics["config"]["labels"] == 20 and "20 of" in metrics["config"]["data"]
    model = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert np.isnan(model.missing_label) and metrics["config"]["epochs"] == 2


def test_few_labels_of_images_are_spread():
    digits = datasets.hide_labels(datasets.load("digits"), 50)
    recipe = recipes.few_labels(recipes.recipe_for(digits))
    model = recipe.model(digits, 1 / 64)
    (penalty,) = model.penalties
    assert recipe.augment is None and model.missing_label == -1
    assert penalty.augment == recipes.RandomAffine(17) and penalty.strong.shift == pytest.approx(1.5 * 0.7)


def test_too_few_labels(tmp_path):
    with pytest.raises(ValueError, match="--labels: count is 9; wanted a whole number, at least 10"):
        train("digits", tmp_path / "run", labels=9)
    with pytest.raises(ValueError, match="--batch-size is 1; wanted at least 2 with --labels"):
        train("digits", tmp_path / "run", labels=10, batch_size=1)
    with pytest.raises(ValueError, match="--labels is 0; wanted a whole number, at least 1"):
        train("digits", tmp_path / "run", labels=0)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())
