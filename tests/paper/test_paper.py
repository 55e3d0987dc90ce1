"""Quick runs of every experiment, from the command line, and what they leave."""

import dataclasses
import functools
import pathlib
import re

import markupsafe
import numpy as np
import pytest
from typer.testing import CliRunner

from paper import adbench, flights, mnist, mnist_density, reporting, results, simulation
from paper.__main__ import app
from paper.results import Place, Result
from tfp_hybrid import datasets, files
from tfp_hybrid.commands import fitting
from tfp_hybrid.datasets import loading

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "paper" / "results"
MODULES = {
    "simulation": simulation,
    "mnist": mnist,
    "mnist_density": mnist_density,
    "flights": flights,
    "adbench": adbench,
}
FOLDERS = {"adbench": "adbench"}  # of the data, or "tfds"


def invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Each data set is read once for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        load = functools.cache(datasets.load)
        patch.setattr(datasets, "load", load)
        patch.setattr(loading, "load", load)  # for out-of-distribution sets
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module", params=MODULES)
def quick(request, folder, real_data):
    """A quick run of one experiment: its name, and what the command printed."""
    data = real_data / FOLDERS.get(request.param, "tfds")
    if request.param != "simulation" and not data.is_dir():
        pytest.skip(f"no data in {real_data}")
    result = invoke(request.param, "--quick", "--out", folder, "--data-dir", data)
    assert result.exit_code == 0, result.output
    return request.param, result.output


@pytest.mark.nightly
def test_a_quick_run_leaves_results_pictures_and_a_report(quick, folder):
    name, output = quick
    kept = results.load_all(folder / name)
    assert MODULES[name].NEEDED <= kept.keys()
    for result in kept.values():
        assert result.command == f"python -m paper {name} --quick"
        assert result.seconds >= 0 and {"tensorflow", "machine"} <= result.versions.keys()
    for table in reporting.tables(folder)[name]:
        assert "a trial run" in table.title and table.title.split(" (")[0] in output
        assert all(len(cells) == len(table.columns) for _, _, cells in table.rows)
    report = (folder / "report.html").read_text()
    for title, (_, caption) in MODULES[name].pictures(kept).items():
        assert (folder / name / f"{title}.png").stat().st_size > 10_000
        assert str(markupsafe.escape(caption)) in report
    links = re.search('https?:|(src|href)="(?!data:|#)', report)  # "http" alone is a set of ADBench, too
    assert not links, "self-contained"
    markdown = folder / "tables.md"
    markdown.write_text("<!-- results -->\n<!-- /results -->\n")
    with pytest.raises(ValueError, match="not for the tables of a trial run"):
        reporting.insert(folder, markdown)
    assert not list((folder / name).glob("models/*/checkpoint.npz")), "finished"


@pytest.mark.nightly
def test_the_same_line_again_measures_nothing(quick, folder, real_data):
    name, _ = quick
    before = {path.name: path.read_bytes() for path in (folder / name).glob("*.json")}
    result = invoke(name, "--quick", "--out", folder, "--data-dir", real_data / FOLDERS.get(name, "tfds"))
    assert result.exit_code == 0 and "1 of " not in result.output
    assert {path.name: path.read_bytes() for path in (folder / name).glob("*.json")} == before


@pytest.mark.nightly
def test_full_and_quick_results_do_not_mix(quick, folder, real_data):
    name, _ = quick
    result = invoke(name, "--out", folder, "--data-dir", real_data / FOLDERS.get(name, "tfds"))
    assert result.exit_code == 1 and "has other settings" in " ".join(result.output.split())


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name, jobs", [("mnist", ["lambda_0.01_seed_0"]), ("flights", ["hybrid_mixture", "hybrid_normal", "network_0"])]
)
def test_no_test_row_touches_a_model(name, jobs, tmp_path, monkeypatch, real_data):
    """Other test labels and other test inputs: the identical models, and other metrics."""
    if not (real_data / "tfds").is_dir():
        pytest.skip(f"no data in {real_data}")
    load = datasets.load
    weights, metrics = [], []

    def changed(*args, **kwargs):
        dataset = load(*args, **kwargs)
        x, y = dataset.test
        return dataclasses.replace(dataset, test=(x[::-1].copy(), np.roll(y, 1)))

    for run, loader in enumerate((load, changed)):
        monkeypatch.setattr(datasets, "load", loader)
        place = Place(tmp_path / str(run), "test", quick=True)
        place.obtain(MODULES[name].jobs(place, real_data / "tfds"), jobs)
        weights.append([weight for job in jobs for weight in place.load_model(job).get_weights()])
        metrics.append([results.load(place.folder / f"{job}.json").metrics for job in jobs])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(*metrics, strict=True):
        assert one["nll" if name == "flights" else "test"] != other["nll" if name == "flights" else "test"]


@pytest.mark.nightly
def test_a_killed_run_resumes_after_its_last_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting.Checkpoint.__init__, "__defaults__", (0.0,))
    on_epoch_end = fitting.Checkpoint.on_epoch_end

    def killed(self, epoch, logs=None):
        on_epoch_end(self, epoch, logs)
        if epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(fitting.Checkpoint, "on_epoch_end", killed)
    arguments = ("simulation", "--quick", "--out", tmp_path)
    assert invoke(*arguments).exit_code == 130
    assert {path.stem for path in (tmp_path / "simulation").glob("*.json")} == {"truth", "gaussian_process"}
    epochs = []
    monkeypatch.setattr(
        fitting.Checkpoint,
        "on_epoch_end",
        lambda self, epoch, logs=None: (epochs.append(epoch), on_epoch_end(self, epoch, logs)),
    )
    assert invoke(*arguments).exit_code == 0
    assert epochs == [3, 4]
    assert (tmp_path / "simulation" / "hybrid.json").exists()


@pytest.mark.nightly
def test_a_run_killed_before_its_result_was_written_is_not_trained_again(tmp_path, monkeypatch):
    write = files.write

    def killed(path, text):
        if path.name == "hybrid.json":
            raise KeyboardInterrupt
        write(path, text)

    monkeypatch.setattr(files, "write", killed)
    arguments = ("simulation", "--quick", "--out", tmp_path)
    assert invoke(*arguments).exit_code == 130
    model = (tmp_path / "simulation" / "models" / "hybrid" / "model.keras").read_bytes()
    monkeypatch.setattr(files, "write", write)
    result = invoke(*arguments)
    assert result.exit_code == 0 and "1 of 1: hybrid" in result.output
    assert (tmp_path / "simulation" / "models" / "hybrid" / "model.keras").read_bytes() == model
    kept = results.load(tmp_path / "simulation" / "hybrid.json").metrics
    assert kept["training_seconds"] > 0
    assert not list((tmp_path / "simulation").glob("**/checkpoint.npz"))


def test_one_model_of_an_experiment_says_what_lacks(tmp_path):
    result = invoke("simulation", "--quick", "--only", "truth", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert "simulation is not shown yet, because it lacks gaussian_process, hybrid" in " ".join(result.output.split())
    assert not (tmp_path / "report.html").exists()


def test_help_has_examples():
    result = invoke("--help")
    assert result.exit_code == 0 and "Examples" in result.output and "python -m paper simulation" in result.output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ("imagenet",),
            "'imagenet' is unknown; wanted one of simulation, mnist, mnist_density, flights, adbench, uci, report",
        ),
        (("simulation", "--quick", "--only", "nothing"), "--only 'nothing' is unknown"),
        (("report", "--markdown", "missing.md"), "--markdown missing.md does not exist"),
        (("report",), "has no results"),
        (("report", "--quick"), "takes neither --quick, --only nor --data-dir"),
        (("simulation", "--quick", "--markdown", "README.md"), "--quick is a trial run"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path):
    result = invoke(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 1 and message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_for_results(tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    for out in (file, file / "below"):
        result = invoke("mnist", "--out", out)
        assert result.exit_code == 1 and f"{file} is not a writable folder" in result.output
    assert file.read_text() == "kept"


def test_the_documentation_holds_the_tables_of_the_kept_results(tmp_path):
    page, copy = ROOT / "docs" / "paper.md", tmp_path / "paper.md"
    copy.write_text(page.read_text())
    reporting.insert(RESULTS, copy)
    assert copy.read_text() == page.read_text(), (
        "run `python -m paper report --out paper/results --markdown docs/paper.md`"
    )


def test_published_figures_are_marked():
    metrics = {
        "test": {"error": 0.5, "nll": 0.5, "bits_per_dim": 5.0},
        "ood": {name: {"auroc": 0.5, "fpr95": 0.5, "nll": 5.0, "entropy": 0.5} for name in mnist.OOD},
        "training_seconds": 60.0,
    }
    kept = {name: Result(name, "a test", {}, metrics, 1.0, {}) for name in mnist.NEEDED}
    table = mnist.tables(kept)[0]
    (published, *others) = table.rows
    assert (
        published[1] == "published"
        and published[2][:2] == ["0.73", "0.033"]
        and published[2][3:5] == ["10.10", "0.3695"]
    )
    assert [row[1] for row in others] == ["measured"] * 2 and others[0][2][0] == "50.00"
    lines = table.markdown().splitlines()
    assert "| *lambda = 0.01/D* | *published* | *0.73* |" in lines[4] and "*" not in lines[5]
