import json

import keras
import numpy as np
import pandas as pd
import pytest

from tfp_hybrid.experiments import fitting, training
from tfp_hybrid.experiments.training import Config, train
from tfp_hybrid.hybrid import HybridModel

TINY = Config("simulation", epochs=2, ood=("noise",))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "simulation"
    return folder, train(TINY, folder)


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
    assert {"config", "seconds", "test", "ood", "versions"} <= metrics.keys()
    assert {"rmse", "nll", "log_prob_x"} <= metrics["test"].keys()
    assert metrics["ood"]["noise"].keys() == {"auroc", "fpr95", "nll", "entropy"}
    history = pd.read_csv(folder / "history.csv")
    assert history["epoch"].tolist() == [1, 2] and {"loss", "val_nll"} <= set(history)


def test_the_saved_model_is_the_one_that_was_measured(run):
    folder, metrics = run
    x, y = training.datasets.load("simulation").test
    model = keras.models.load_model(folder / "model.keras")
    assert model.log_prob(x).mean() == pytest.approx(metrics["test"]["log_prob_x"], rel=1e-5)
    assert np.sqrt(np.mean((model.predict(x, verbose=0) - y) ** 2)) == pytest.approx(metrics["test"]["rmse"], rel=1e-4)


def test_the_report_holds_its_pictures_and_numbers(run):
    folder, metrics = run
    report = (folder / "report.html").read_text()
    assert report.count("data:image/png;base64,") == 4
    assert "http" not in report, "self-contained"
    assert f"{metrics['test']['rmse']:.4f}" in report and f"{metrics['ood']['noise']['auroc']:.4f}" in report


def test_the_seed_makes_a_run_repeatable(run, tmp_path):
    _, metrics = run
    again = train(TINY, tmp_path / "again")
    assert again["test"] == metrics["test"]
    other = train(Config("simulation", epochs=2, ood=("noise",), seed=1), tmp_path / "other")
    assert other["test"] != metrics["test"]


def test_a_killed_run_resumes_where_it_was(tmp_path, monkeypatch):
    folder, config = tmp_path / "run", Config("simulation", epochs=3, ood=())
    monkeypatch.setattr(fitting.Checkpoint.__init__, "__defaults__", (0.0,))
    on_epoch_end = fitting.Checkpoint.on_epoch_end

    def killed_in_the_third(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        if epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting.Checkpoint, "on_epoch_end", killed_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        train(config, folder)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2]
    steps = keras.models.load_model(folder / "checkpoint.keras").optimizer.iterations
    assert int(steps) == 2 * 20

    monkeypatch.setattr(fitting.Checkpoint, "on_epoch_end", on_epoch_end)
    with pytest.raises(ValueError, match="seed was 0, is 5"):
        train(Config("simulation", epochs=3, ood=(), seed=5), folder, resume=True)
    train(config, folder, resume=True)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2, 3]
    assert int(keras.models.load_model(folder / "model.keras").optimizer.iterations) == 3 * 20
    with pytest.raises(ValueError, match="no interrupted run"):
        train(config, folder, resume=True)


def test_a_loss_that_diverges_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(fitting.Checkpoint.__init__, "__defaults__", (0.0,))
    step = HybridModel.train_step

    def diverging(self, data):
        logs = step(self, data)
        late = self.optimizer.iterations > 30  # in the second epoch
        return logs | {"loss": keras.ops.where(late, np.nan, logs["loss"])}

    monkeypatch.setattr(HybridModel, "train_step", diverging)
    with pytest.raises(FloatingPointError, match="at step 31"):
        train(Config("simulation", epochs=3, ood=()), folder)
    kept = keras.models.load_model(folder / "checkpoint.keras")
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())
    assert not (folder / "model.keras").exists()


@pytest.mark.parametrize(
    "config, message",
    [
        (Config("imagenet"), "'imagenet'; wanted one of digits"),
        (Config("digits", epochs=0), "--epochs is 0"),
        (Config("digits", batch_size=-3), "--batch-size is -3"),
        (Config("digits", batch_size=5000), "--batch-size is 5000; digits has 1000"),
        (Config("digits", generative_weight=-1.0), "--generative-weight is -1.0"),
        (Config("digits", generative_weight=float("nan")), "--generative-weight is nan"),
        (Config("digits", learning_rate=0.0), "--learning-rate is 0.0"),
        (Config("digits", ood=("mnist8",)), "--ood 'mnist8' is unknown"),
    ],
)
def test_bad_settings_are_named_before_anything_is_written(config, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        train(TINY, tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        train(TINY, tmp_path / "mine.txt")
    with pytest.raises(ValueError, match="cannot be written"):
        train(TINY, tmp_path / "mine.txt" / "below")
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_kill_between_the_two_files_loses_no_epoch(tmp_path, monkeypatch):
    """The history is one epoch ahead of the model: the model's own step count decides."""
    folder, config = tmp_path / "run", Config("simulation", epochs=3, ood=())
    monkeypatch.setattr(fitting.Checkpoint.__init__, "__defaults__", (0.0,))
    replace = fitting.os.replace

    def killed(source, target):
        if target.name == fitting.CHECKPOINT and "\n2," in (folder / fitting.HISTORY).read_text():
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(fitting.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, folder)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2]
    monkeypatch.setattr(fitting.os, "replace", replace)
    train(config, folder, resume=True)
    assert pd.read_csv(folder / "history.csv")["epoch"].tolist() == [1, 2, 3]
    assert int(keras.models.load_model(folder / "model.keras").optimizer.iterations) == 3 * 20


def test_a_run_that_diverges_at_once_leaves_a_model_and_resumes_with_a_lower_rate(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(FloatingPointError, match="learning rate"):
        train(Config("simulation", epochs=2, ood=(), learning_rate=1e30), folder)
    kept = keras.models.load_model(folder / "checkpoint.keras")
    assert all(np.isfinite(weight).all() for weight in kept.get_weights())
    metrics = train(Config("simulation", epochs=2, ood=(), learning_rate=0.01), folder, resume=True)
    assert np.isfinite(metrics["test"]["nll"])
