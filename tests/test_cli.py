import io
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import typer.testing

import tfp_hybrid as hy
from tfp_hybrid import cli, console, datasets, options, recipes
from tfp_hybrid.cli import app
from tfp_hybrid.commands import fitting

pytestmark = pytest.mark.integration


def invoke(*arguments):
    return typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("cli") / "run"
    result = invoke("train", "simulation", "--out", out, "--epochs", 2, "--generative-weight", 0.5, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert "rmse" in result.output and "report.html" in result.output
    return out


def test_train_follows_its_options(folder):
    config = json.loads((folder / "metrics.json").read_text())["config"]
    assert (config["epochs"], config["generative_weight"], config["seed"]) == (2, 0.5, 3)


def test_evaluate_prints_the_metrics_that_train_wrote(folder):
    result = invoke("evaluate", folder, "simulation", "--ood", "noise", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    written = json.loads((folder / "metrics.json").read_text())
    assert printed["test"] == pytest.approx(written["test"], rel=1e-5)
    for name in ("auroc", "fpr95", "entropy"):
        assert printed["ood"]["noise"][name] == pytest.approx(written["ood"]["noise"][name], rel=1e-5)


def test_score_prints_a_row_for_each_input(folder, tmp_path):
    x = datasets.load("simulation").test[0][:20]
    far = np.r_[x, [[1e4]]].astype("float32")
    np.savez(tmp_path / "rows.npz", x=far)
    result = invoke("score", folder, tmp_path / "rows.npz", "--out", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "scores.csv")
    assert list(table) == ["prediction", "uncertainty", "log_prob_x", "score", "percentile", "abstain"]
    assert len(table) == 21
    assert table["abstain"].iloc[-1] and table["percentile"].iloc[-1] == 0
    assert not table["abstain"].iloc[:20].all()


def test_score_takes_a_saved_rejector(folder, tmp_path):
    """The run's own, by its path; `--abstain-below` in place of its threshold."""
    np.savez(tmp_path / "rows.npz", x=datasets.load("simulation").test[0])
    found = []
    for chosen in ((), ("--abstain-below", "50")):
        result = invoke("score", folder / "rejector.keras", tmp_path / "rows.npz", *chosen)
        assert result.exit_code == 0, result.output
        found.append(pd.read_csv(io.StringIO(result.stdout))["abstain"].mean())
    assert found[0] < 0.1 and found[1] == pytest.approx(0.5, abs=0.1)


@pytest.mark.nightly
def test_evaluate_compares_all_scores(folder, tmp_path):
    drawn = tmp_path / "drawn"
    result = invoke("evaluate", folder, "simulation", "--ood", "noise", "--json", "--pictures", drawn)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["scores"]["noise"]
    assert {"-log p(x)", "typicality", "variance of p(y|x)"} <= set(rows)
    assert rows["combined"]["auroc"] == pytest.approx(json.loads(result.stdout)["ood"]["noise"]["auroc"])
    assert {"log_prob_x.png", "roc.png", "precision_recall.png"} <= {path.name for path in drawn.iterdir()}
    more = ("--other", folder, "--likelihood-ratio", "--json")
    result = invoke("evaluate", folder, "simulation", "--ood", "noise", *more)
    assert result.exit_code == 0, result.output
    assert {"WAIC", "likelihood ratio"} <= set(json.loads(result.stdout)["scores"]["noise"])


def test_evaluate_without_foreign_sets(folder, tmp_path):
    result = invoke("evaluate", folder, "simulation", "--pictures", tmp_path / "drawn")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["log_prob_x.png"]


def test_drift_tells_other_inputs_from_the_same(folder, tmp_path):
    x = datasets.load("simulation").test[0]
    p_values = {}
    for name, rows in {"same": x, "moved": x + 3}.items():
        np.savez(tmp_path / f"{name}.npz", x=rows)
        result = invoke("drift", folder, tmp_path / f"{name}.npz", "--json", "--picture", tmp_path / f"{name}.png")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert found["rows"] == len(x) and (tmp_path / f"{name}.png").stat().st_size > 1000
        p_values[name] = [test["p_value"] for test in found["tests"]]
        assert [test["drifted"] for test in found["tests"]] == [p < 0.05 for p in p_values[name]]
    assert min(p_values["same"]) > 0.001 and max(p_values["moved"]) < 0.001
    table = invoke("drift", folder, tmp_path / "moved.npz")
    assert "KS" in table.stdout and "yes" in table.stdout


def test_json_is_that_of_the_standard(folder, tmp_path):
    """Rows so far out that log p(x) overflows."""
    np.savez(tmp_path / "far.npz", x=np.full((50, 1), 3e38, "float32"))
    result = invoke("drift", folder, tmp_path / "far.npz", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert "Infinity" in [test["statistic"] for test in found["tests"]]
    assert "Infinity" in " ".join(invoke("drift", "--help").output.split())


@pytest.mark.parametrize("command", ["train", "evaluate", "score", "drift", "export"])
def test_help_has_examples(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0 and "Examples" in result.output and f"tfp-hybrid {command}" in result.output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("train", "imagenet", "--out", "OUT"), "imagenet"),
        (("train", "digits", "--out", "OUT", "--epochs", "0"), "--epochs is 0"),
        (("evaluate", "OUT", "digits"), "There is no model"),
        (("score", "OUT", "rows.npz"), "There is no model"),
        (("drift", "OUT", "rows.npz"), "There is no model"),
        (("export", "OUT"), "There is no model"),
    ],
)
def test_mistakes_are_one_line_and_status_1(arguments, message, tmp_path):
    arguments = [str(tmp_path / "out") if argument == "OUT" else argument for argument in arguments]
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert message in result.stderr and "Traceback" not in result.output


def test_a_picture_of_another_format_is_refused(folder, tmp_path):
    np.savez(tmp_path / "rows.npz", x=datasets.load("simulation").test[0])
    result = invoke("drift", folder, tmp_path / "rows.npz", "--picture", tmp_path / "a.txt")
    assert result.exit_code == 1 and "wanted .png" in result.stderr


def test_the_data_sets_are_those_of_the_recipes():
    assert options.data_sets() == list(recipes.NAMES)


def test_a_mistyped_name_is_noticed_before_tensorflow_starts(monkeypatch):
    monkeypatch.setattr(cli, "start_tensorflow", lambda verbose: pytest.fail("started"))
    result = invoke("train", "digitz", "--out", "run")
    assert result.exit_code == 1 and "Did you mean 'digits'?" in result.stderr


def test_version():
    assert invoke("--version").stdout == f"tfp-hybrid {hy.__version__}\n"


def test_what_tensorflow_prints_at_its_start_is_kept_back(capfd, monkeypatch):
    """In this process it has started already, so that another module speaks in its place."""

    def speaks(name):
        os.write(2, b"about the machine\n")
        if name == "tfp_hybrid.commands" and fails:
            raise ImportError("broken")
        return sys.modules[name]

    monkeypatch.setattr(console.importlib, "import_module", speaks)
    fails = False
    console.start_tensorflow()
    assert capfd.readouterr().err == ""
    console.start_tensorflow(verbose=True)
    assert "about the machine" in capfd.readouterr().err
    fails = True
    with pytest.raises(ImportError, match="broken"):
        console.start_tensorflow()
    assert "about the machine" in capfd.readouterr().err


KEEP_BACK = "import runpy, sys; keep_back = runpy.run_path(sys.argv[1])['_kept_back']\n"  # without TensorFlow


def test_a_closed_error_stream_is_no_error():
    script = KEEP_BACK + "import os; os.close(2)\nwith keep_back(): print('runs')"
    done = subprocess.run([sys.executable, "-c", script, console.__file__], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "runs\n")


def test_if_tensorflow_aborts_the_place_is_printed():
    script = KEEP_BACK + "import os\nwith keep_back(): os.abort()"
    done = subprocess.run([sys.executable, "-c", script, console.__file__], capture_output=True, text=True)
    assert done.returncode == -signal.SIGABRT and "Fatal Python error: Aborted" in done.stderr


def test_evaluating_on_data_of_another_shape_is_explained(folder):
    result = invoke("evaluate", folder, "digits")
    assert result.exit_code == 1 and "wanted ('n', 1)" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "number, status", [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.nightly)]
)
def test_signals_save_and_say_how_to_continue(number, status, tmp_path, monkeypatch):
    def signalled(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 27:  # in the second epoch
            os.kill(os.getpid(), number)
        on_train_batch_end(self, batch, logs)

    on_train_batch_end = fitting.Checkpoint.on_train_batch_end
    # A process that was started in the background ignores SIGINT.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    monkeypatch.setattr(fitting.Checkpoint, "on_train_batch_end", signalled)
    result = invoke("train", "simulation", "--out", tmp_path / "run", "--epochs", 3)
    assert result.exit_code == status
    assert "Run the same command with --resume to continue." in result.stderr and "Traceback" not in result.output
    assert pd.read_csv(tmp_path / "run" / "history.csv")["epoch"].tolist() == [1]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"history.csv", "checkpoint.npz", "config.json"}
    assert signal.getsignal(number) is usual
    signal.signal(number, before)


def test_a_signal_before_training_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda *args, **options: os.kill(os.getpid(), signal.SIGTERM))
    result = invoke("train", "simulation", "--out", tmp_path / "run")
    assert result.exit_code == 143 and "Nothing is saved yet. Run the same command again to start." in result.stderr
    assert list(tmp_path.iterdir()) == []
