"""Runs on tables with groups and an offset: trained and evaluated."""

import json
import re

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.stats
import typer.testing

import tfp_hybrid as hy
from tfp_hybrid import commands
from tfp_hybrid.cli import app

pytestmark = pytest.mark.integration

NOISE = 0.5
SCHOOLS = 2 * np.random.default_rng(0).permutation(scipy.stats.norm.ppf((np.arange(24) + 0.5) / 24))


def pupils(rows, seed):
    """Points of pupils of 24 schools, whose ids are digits, on top of a base that is known."""
    rng = np.random.default_rng(seed)
    school = rng.integers(0, 24, rows)
    table = pd.DataFrame({"age": rng.integers(6, 18, rows), "hours": rng.normal(size=rows).round(2)})
    table["base"] = rng.normal(50, 20, rows).round(1)
    table["school"] = [f"{number}" for number in school]
    mean = 0.3 * (table["age"] - 12) + table["hours"] + SCHOOLS[school]
    table["points"] = table["base"] + mean + NOISE * rng.normal(size=rows)
    table["passes"] = np.where(rng.logistic(size=rows) < mean, "yes", "no")
    return table


def invoke(*arguments):
    return typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A regression: its folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("groups")
    pupils(500, 1).drop(columns="passes").to_csv(folder / "pupils.csv", index=False)
    options = ("--target", "points", "--group", "school", "--offset", "base", "--epochs", 25, "--learning-rate", 0.01)
    result = invoke("train", folder / "pupils.csv", *options, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    return folder / "run", result.stderr


def test_errors_are_near_the_noise(run):
    folder, shown = run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["rmse"] < 1.35 * NOISE
    assert np.sqrt(metrics["groups"]["school"][0][0]) == pytest.approx(SCHOOLS.std(), rel=0.2)
    assert metrics["offset"] == "base" and metrics["feature_names"] == ["age", "hours"]
    assert set(metrics["importance"]) == {"age", "hours"}
    assert re.search(r"school\W+24\W+[12]\.\d", shown) and "effects on the target" in " ".join(shown.split())
    report = (folder / "report.html").read_text()
    assert report.count("<svg") == 5 and "The most foreign test rows" in report


def test_evaluate_equals_the_saved_model(run, tmp_path):
    new = pupils(300, 2).drop(columns="passes").iloc[:, ::-1]
    new.loc[:3, "school"] = "99"  # not in training
    new.to_csv(tmp_path / "new.csv", index=False)
    found = commands.evaluate(run[0], str(tmp_path / "new.csv"), pictures=tmp_path / "pictures")["test"]
    model = keras.models.load_model(run[0] / "model.keras")
    assert isinstance(model.head, hy.heads.MixedEffects)
    new["school"] = new["school"].astype(int)  # as the table had them
    errors = model.predict(new.drop(columns="points"), verbose=0).ravel() - new["points"]
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert np.sqrt(np.mean(errors[4:] ** 2)) < 1.35 * NOISE
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"log_prob_x.png", "reliability.png"}


def test_ids_of_text_stay_text(tmp_path):
    """A classifier, whose new rows have ids of digits alone."""
    table = pupils(400, 3).drop(columns=["base", "points"])
    table.loc[table["school"] == "7", "school"] = "seven"
    table.to_csv(tmp_path / "pupils.csv", index=False)
    settings = {"epochs": 15, "learning_rate": 0.01, "batch_size": 32}
    metrics = commands.train(
        str(tmp_path / "pupils.csv"), tmp_path / "run", target="passes", group=["school"], **settings
    )
    assert np.shape(metrics["groups"]["school"]) == (2, 2) and metrics["test"]["error"] < 0.35
    pupils(300, 4).drop(columns=["base", "points"]).to_csv(tmp_path / "new.csv", index=False)
    result = invoke("evaluate", tmp_path / "run", tmp_path / "new.csv", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["test"]["error"] < 0.35


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("t.csv", "--target", "points", "--group", "class"), "--group 'class' is not a column of"),
        (("t.csv", "--target", "points", "--group", "points"), "--group 'points' is given as --target, too"),
        (
            ("t.csv", "--target", "points", "--group", "school", "--group", "school"),
            "'school' is given as --group, too",
        ),
        (("t.csv", "--target", "points", "--group", "school", "--category", "school"), "is given as --category, too"),
        (("t.csv", "--target", "points", "--offset", "area"), "--offset 'area' is not a column of"),
        (("t.csv", "--target", "points", "--offset", "points"), "--offset 'points' is given as --target, too"),
        (
            ("t.csv", "--target", "passes", "--offset", "base"),
            "--offset 'base' is for a target of numbers, but 'passes'",
        ),
        (("t.csv", "--target", "points", "--offset", "passes"), "t.csv: 'passes' has dtype"),
        (("t.csv", "--target", "points", "--group", "hours"), "t.csv: 'hours' holds"),
        (("holes.csv", "--target", "points", "--group", "school"), "holes.csv: 'school' is missing (nan) in row 2"),
        (
            ("alone.csv", "--target", "points", "--group", "school"),
            "no columns besides the target 'points' and ['school']",
        ),
        (("digits", "--group", "school"), "--group is for a .csv or .parquet file"),
        (("digits", "--offset", "base"), "--offset is for a .csv or .parquet file"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line_and_leaves_nothing(arguments, message, tmp_path):
    table = pupils(60, 5)
    made = {"t": table, "alone": table[["school", "points"]]}
    made["holes"] = table.assign(school=[*"01", None, *table["school"][3:]])
    for name, frame in made.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    dataset = arguments[0] if arguments[0] == "digits" else tmp_path / arguments[0]
    result = invoke("train", dataset, "--out", tmp_path / "out", *arguments[1:])
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_fit_are_explained(run, tmp_path):
    new = pupils(30, 6).drop(columns="passes")
    changes = {
        "lacks": (new.drop(columns="school"), r"lacks.csv lacks the columns \['school'\]"),
        "text": (new.assign(school="a"), "text.csv: 'school' holds strings, but its levels are integers"),
        "hole": (new.assign(base=[None, *new["base"][1:]]), "hole.csv: 'base' holds nan in row 0; wanted finite"),
    }
    for name, (table, message) in changes.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        with pytest.raises(ValueError, match=message):
            commands.evaluate(run[0], str(tmp_path / f"{name}.csv"))
