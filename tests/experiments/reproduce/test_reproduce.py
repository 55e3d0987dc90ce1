"""Quick runs of every experiment, from the command line, and what they leave."""

import dataclasses
import functools
import json
import pathlib
import re

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

from tfp_hybrid import datasets
from tfp_hybrid.cli import app
from tfp_hybrid.experiments import fitting
from tfp_hybrid.experiments.reproduce import flights, mnist, published, reporting, results, simulation
from tfp_hybrid.experiments.reproduce.results import Job, Place

RESULTS = pathlib.Path(__file__).parents[3] / "results"
MODULES = {"simulation": simulation, "mnist": mnist, "flights": flights}


def invoke(*arguments):
    return CliRunner().invoke(app, ["reproduce", *map(str, arguments)])


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Each data set is read once for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load", functools.cache(datasets.load))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module", params=MODULES)
def quick(request, folder, real_data):
    """A quick run of one experiment: its name, and what the command printed."""
    if request.param != "simulation" and not (real_data / "tfds").is_dir():
        pytest.skip(f"no data in {real_data}")
    result = invoke(request.param, "--quick", "--out", folder, "--data-dir", real_data / "tfds")
    assert result.exit_code == 0, result.output
    return request.param, result.output


@pytest.mark.slow
def test_a_quick_run_leaves_results_pictures_and_a_report(quick, folder):
    name, output = quick
    kept = results.load_all(folder / name)
    assert MODULES[name].NEEDED <= kept.keys()
    for result in kept.values():
        assert result.command == f"tfp-hybrid reproduce {name} --quick"
        assert result.seconds > 0 and {"tensorflow", "machine"} <= result.versions.keys()
        assert "seed" in result.settings or name == "flights"
    for table in MODULES[name].tables(kept):
        assert table.title in output and all(len(cells) == len(table.columns) for _, _, cells in table.rows)
    report = (folder / "report.html").read_text()
    for title, (_, caption) in MODULES[name].pictures(kept).items():
        assert (folder / name / f"{title}.png").stat().st_size > 10_000
        assert caption in report
    assert "http" not in re.sub(re.escape(published.SOURCE), "", report), "self-contained"
    assert not list((folder / name).glob("models/*/checkpoint.keras")), "finished"


@pytest.mark.slow
def test_the_same_line_again_measures_nothing(quick, folder, real_data):
    name, _ = quick
    before = {path.name: path.read_bytes() for path in (folder / name).glob("*.json")}
    result = invoke(name, "--quick", "--out", folder, "--data-dir", real_data / "tfds")
    assert result.exit_code == 0 and "training" not in result.output
    assert {path.name: path.read_bytes() for path in (folder / name).glob("*.json")} == before


@pytest.mark.slow
def test_full_and_quick_results_do_not_mix(quick, folder, real_data):
    name, _ = quick
    result = invoke(name, "--out", folder, "--data-dir", real_data / "tfds")
    assert result.exit_code == 1 and "has other settings" in result.output


@pytest.mark.slow
@pytest.mark.parametrize("name, job", [("mnist", "lambda_0.01_seed_0"), ("flights", "hybrid_mixture")])
def test_no_test_row_touches_the_model(name, job, tmp_path, monkeypatch, real_data):
    """Other test labels and other test inputs: the identical model, and other metrics."""
    if not (real_data / "tfds").is_dir():
        pytest.skip(f"no data in {real_data}")
    load = datasets.load
    weights, metrics = [], []

    def changed(*args, **kwargs):
        dataset = load(*args, **kwargs)
        x, y = dataset.test
        return dataclasses.replace(dataset, test=(x[::-1].copy(), np.roll(y, 1)))

    for number, loader in enumerate((load, changed)):
        monkeypatch.setattr(datasets, "load", loader)
        place = Place(tmp_path / str(number), "test", quick=True)
        place.obtain(MODULES[name].jobs(place, real_data / "tfds"), [job])
        weights.append(keras.models.load_model(place.folder / "models" / job / "model.keras").get_weights())
        metrics.append(results.load(place.folder / f"{job}.json").metrics)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert metrics[0] != metrics[1]


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


def test_jobs_by_name_and_results_of_other_settings(tmp_path):
    place = Place(tmp_path, "test")
    jobs = {name: Job({"seed": 0}, lambda: {"rmse": 1.0}) for name in ("one", "two")}
    place.obtain(jobs, ["two"])
    assert [path.name for path in tmp_path.glob("*.json")] == ["two.json"]
    with pytest.raises(ValueError, match="--only 'three' is unknown; wanted one of one, two"):
        place.obtain(jobs, ["three"])
    with pytest.raises(ValueError, match=r"two.json has other settings \(seed\)"):
        place.obtain(jobs | {"two": Job({"seed": 1}, lambda: {})})
    assert not (tmp_path / "one.json").exists(), "nothing is measured before all is checked"
    (tmp_path / "one.json").write_text("{")
    with pytest.raises(ValueError, match="one.json is no result"):
        place.obtain(jobs)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("imagenet",), "'imagenet'; wanted one of simulation, mnist, flights, report"),
        (("simulation", "--quick", "--only", "nothing"), "--only 'nothing' is unknown"),
        (("report", "--markdown", "missing.md"), "there is no such file"),
        (("report",), "has no results"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path):
    result = invoke(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 1 and message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_the_readme_holds_the_tables_of_the_kept_results(tmp_path):
    readme = RESULTS.parent / "README.md"
    copy = tmp_path / "README.md"
    copy.write_text(readme.read_text())
    reporting.insert(RESULTS, copy)
    assert copy.read_text() == readme.read_text(), (
        "run `tfp-hybrid reproduce report --out results --markdown README.md`"
    )


def test_published_figures_are_the_papers_and_marked():
    """Table 1 of section 3.1, lambda = 0.01/D."""
    assert published.MNIST == {"error": 0.0073, "nll": 0.033, "not_mnist_nll": 10.10, "not_mnist_entropy": 0.3695}
    kept = json.loads((RESULTS / "mnist" / "lambda_0.01_seed_0.json").read_text())["metrics"]
    assert kept["test"]["error"] != published.MNIST["error"]
    first, *others = mnist.tables(results.load_all(RESULTS / "mnist"))[0].rows
    assert first[1] == "published" and all(row[1] == "measured" for row in others)
