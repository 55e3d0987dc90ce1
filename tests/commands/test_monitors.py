"""`drift` of two monitors, from Python and from the command line."""

import json

import numpy as np
import pytest
import typer.testing
from helpers import blobs

from tfp_hybrid import commands, strict_json
from tfp_hybrid.cli import app
from tfp_hybrid.commands import tables
from tfp_hybrid.uncertainty import Monitor

pytestmark = pytest.mark.integration
X, _ = blobs(4000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_rejector):
    folder = tmp_path_factory.mktemp("monitors")
    for i, (name, shift) in enumerate({"monday": 0.0, "tuesday": 0.0, "wednesday": 1.0}.items()):
        answers = tiny_rejector.predict(X[1000 * (i + 1) :][:1000] + np.float32(shift), verbose=0)
        Monitor(tiny_rejector, window=200).update(answers).save(folder / f"{name}.json")
    Monitor(tiny_rejector, window=200).save(folder / "empty.json")
    Monitor(tiny_rejector, window=100).update(answers).save(folder / "hundreds.json")
    (folder / "metrics.json").write_text('{"test": {}}')
    np.savez(folder / "new.npz", x=X[:10])
    return folder


def invoke(*arguments):
    return typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_drift_compares_the_second_with_the_first(folder, tmp_path):
    first, second = (Monitor.load(folder / f"{name}.json") for name in ("monday", "wednesday"))
    found = commands.drift(folder / "monday.json", folder / "wednesday.json", picture=tmp_path / "days.png")
    assert (found["score"], found["reference_rows"], found["rows"]) == ("-log p(x)", 1000, 1000)
    for test, expected in zip(found["tests"], second.tests(first), strict=True):
        assert test["drifted"] and test["effect_size"] == expected.effect_size > 0.05
    files = [str(folder / f"{name}.json") for name in ("monday", "wednesday")]
    assert found["monitors"] == [
        {"file": file} | one.summary() for file, one in zip(files, (first, second), strict=True)
    ]
    assert (tmp_path / "days.png").stat().st_size > 1000
    same = commands.drift(files[0], folder / "tuesday.json", significance=0.01)
    assert not any(test["drifted"] for test in same["tests"])


def test_drift_prints_what_it_returns(folder):
    paths = folder / "monday.json", folder / "wednesday.json"
    returned = commands.drift(*paths, significance=1e-300)
    shown = invoke("drift", *paths, "--significance", 1e-300, "--json")
    assert json.loads(shown.stdout) == json.loads(strict_json.dumps(returned))
    assert not any(test["drifted"] for test in returned["tests"])
    shown = invoke("drift", *paths).stdout
    assert "1,000 rows against 1,000 earlier ones" in shown and "abstentions" in shown and "not finite" not in shown


def test_scores_that_are_not_finite_have_a_column():
    summary = {"rows": 1234, "abstention_rate": 0.125, "mean": 2.5, "p5": 1.0, "p50": np.nan, "p95": 1e7}
    monitors = [{"file": name, "non_finite": count} | summary for name, count in (("a.json", 0), ("b.json", 7))]
    answer = {"score": "energy", "reference_rows": 1234, "rows": 1234, "tests": [], "monitors": monitors}
    _, table = tables.drift_tables(answer)
    assert table.columns[2] == "not finite"
    assert table.rows[1] == ("b.json", "", ["1,234", "12.50 %", "7", "2.5", "1", "nan", "1e+07"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("monday.json", "new.npz"), "new.npz is not a monitor; wanted two .json files"),
        (("new.npz", "monday.json"), "new.npz is not a monitor; wanted two .json files"),
        (
            ("monday.json", "metrics.json"),
            "metrics.json is damaged or not a file of `Monitor.save`: it is not a monitor",
        ),
        (("monday.json", "empty.json"), "empty.json is a monitor without rows"),
        (("monday.json", "hundreds.json"), "different windows '100 rows' and '200 rows'"),
        (("monday.json", "absent.json"), "absent.json does not exist"),
        (("monday.json", "tuesday.json", "--reference", "new.npz"), "wanted none, since two monitors are compared"),
        (("monday.json", "tuesday.json", "--picture", "days.txt"), "wanted .png, .svg or .pdf"),
    ],
)
def test_mistakes_are_one_line(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    result = invoke("drift", *arguments)
    assert result.exit_code == 1 and message in " ".join(result.stderr.split()) and "Traceback" not in result.output
