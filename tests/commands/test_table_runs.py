"""Runs on tables from files: trained, scored, evaluated and tested for drift."""

import json
import re
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import typer.testing

from tfp_hybrid import commands, files
from tfp_hybrid.cli import app
from tfp_hybrid.commands import table_training
from tfp_hybrid.commands.table_training import _split as split_rows
from tfp_hybrid.tables.targets import Target

pytestmark = pytest.mark.integration

WRITTEN = {"model.keras", "rejector.keras", "metrics.json", "report.html"}
ODD_NAMES = {"age": "cost $ per_$", "plan": "<b>plan</b>"}


def customers(rows=600, seed=0):
    """A table of several kinds of columns; the plan and the age tell who leaves, the colour does not."""
    rng = np.random.default_rng(seed)
    plan = rng.choice(["basic", "gold", "plus"], rows)
    age = rng.integers(18, 80, rows).astype(float)
    leaves = (plan == "basic") ^ (rng.uniform(size=rows) < 0.1)
    since = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), "D")
    table = {
        "age": np.where(rng.uniform(size=rows) < 0.1, np.nan, age),
        "plan": plan,
        "hour": rng.integers(0, 24, rows),
    }
    table |= {"since": since.strftime("%Y-%m-%d"), "colour": rng.choice(["red", "blue"], rows)}
    table["leaves"] = np.where(leaves, "yes", "no")
    table["spent"] = np.round(50 * (plan == "gold") + age + rng.normal(size=rows), 2)
    return pd.DataFrame(table)


def invoke(*arguments):
    return typer.testing.CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a classifier: its folder, and the folder of its tables."""
    folder = tmp_path_factory.mktemp("tables")
    customers().drop(columns="spent").to_csv(folder / "customers.csv", index=False)
    customers(300, seed=1).drop(columns="spent").to_parquet(folder / "new.parquet")
    arguments = ("--target", "leaves", "--out", folder / "run", "--epochs", 30, "--learning-rate", 0.01, "--seed", 3)
    result = invoke("train", folder / "customers.csv", *arguments)
    assert result.exit_code == 0, result.output
    assert "Classification of 2 classes, because the target is text." in result.stderr
    assert "category of 3 levels" in result.stderr and "circle, 0 to 24" in result.stderr
    return folder / "run", folder


def test_an_exported_run_says_what_its_columns_are(run, tmp_path):
    folder, tables_folder = run
    signature = commands.export(folder, out=tmp_path / "1")
    assert (signature["target"], signature["classes"]) == ("leaves", ["no", "yes"])
    columns = {column["name"]: column for column in signature["columns"]}
    assert columns["plan"]["levels"] and "circle" in columns["hour"]["kind"] and "levels" not in columns["age"]
    table = pd.read_parquet(tables_folder / "new.parquet")[:50]
    codes = table[list(columns)].copy()
    for name, column in columns.items():
        if "levels" in column:
            codes[name] = codes[name].map(column["levels"].index)
    codes["since"] = (pd.to_datetime(codes["since"]) - pd.Timestamp(0)) / pd.Timedelta("1D")
    x = tf.constant(codes.to_numpy(float), signature["signatures"]["serving_default"]["inputs"]["x"]["dtype"])
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"](x=x)
    expected = commands.score(folder, tables_folder / "new.parquet")[:50]
    found = np.array(signature["classes"])[np.argmax(served["prediction"], -1)]
    np.testing.assert_array_equal(found, expected["prediction"])
    np.testing.assert_allclose(served["log_prob_x"], expected["log_prob_x"], rtol=1e-5, atol=1e-4)


def test_a_run_leaves_its_files_and_nothing_else(run):
    assert {path.name for path in run[0].iterdir()} == WRITTEN
    metrics = json.loads((run[0] / "metrics.json").read_text())
    assert (metrics["target"], metrics["task"], metrics["classes"]) == ("leaves", "classification", ["no", "yes"])
    assert metrics["config"]["seed"] == 3 and metrics["config"]["learning_rate"] == 0.01
    assert metrics["config"]["epochs"] <= 30
    kinds = {row["column"]: row["kind"] for row in metrics["columns"]}
    assert kinds["since"] == "date" and kinds["colour"] == "category of 2 levels"
    assert metrics["test"]["error"] < 0.2 and metrics["validation"]["abstains"] <= 0.02


def test_the_plan_is_what_matters(run):
    importance = pd.DataFrame(json.loads((run[0] / "metrics.json").read_text())["importance"]).T
    assert importance["p(y|x)"].idxmax() == "plan"
    assert importance["p(y|x)"]["colour"] < 0.1 * importance["p(y|x)"]["plan"]


def test_the_report_holds_its_tables_and_pictures(run):
    report = (run[0] / "report.html").read_text()
    assert report.count("<svg") == 5 and not re.search('(src|href)="(?!data:|#)', report)
    text = " ".join(re.sub("<[^>]*>", " ", report[report.index("<body>") :]).split())
    error = 100 * json.loads((run[0] / "metrics.json").read_text())["test"]["error"]
    assert "Hybrid model of leaves in customers.csv" in text and "one of 2 classes: no, yes" in text
    assert re.search(r"It answers [\d.]+ % of the test rows, of which ([\d.]+) % are wrong", text)
    assert f"{error / 100:.4f}" in text and "category of 3 levels" in text
    foreign = text[text.index("The most foreign test rows") :]
    rows = [int(row) for row in re.findall(r"(\d+) -\d+\.\d+ (?:yes|no)", foreign)]
    assert len(rows) == 8 and max(rows) < 600


def test_score_predicts_by_the_names_of_classes(run, tmp_path):
    new = customers(200, seed=2).drop(columns="spent").iloc[:, ::-1]
    new.to_csv(tmp_path / "new.csv", index=False)
    table = commands.score(run[0], tmp_path / "new.csv")
    assert set(table["prediction"]) == {"no", "yes"}
    assert (table["prediction"] == new["leaves"]).mean() > 0.8
    without = commands.score(run[0], run[1] / "new.parquet")
    assert len(without) == 300 and "because" not in without


def test_score_explains_where_it_abstains(run, tmp_path):
    new = customers(40, seed=2).drop(columns=["spent", "leaves"])
    new.loc[3, "age"], new.loc[5, "since"] = 412, "1907-01-01"
    new.to_csv(tmp_path / "new.csv", index=False)
    result = invoke("score", run[0], tmp_path / "new.csv", "--explain", "--out", tmp_path / "scores.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert table["abstain"][[3, 5]].all()
    assert table["because"][3].split(", ")[0] == "age" and table["because"][5].split(", ")[0] == "since"
    assert ((table["because"] == "") == ~table["abstain"]).all()
    assert table["because"].str.count(", ").max() <= 2


def test_evaluate_equals_a_count_by_hand(run):
    found = commands.evaluate(run[0], str(run[1] / "new.parquet"))
    scored = commands.score(run[0], run[1] / "new.parquet")
    wrong = scored["prediction"] != pd.read_parquet(run[1] / "new.parquet")["leaves"]
    assert found["test"]["error"] == pytest.approx(wrong.mean())
    assert found["test"]["abstains"] == pytest.approx(scored["abstain"].mean())
    assert found["test"]["log_prob_x"] == pytest.approx(scored["log_prob_x"].mean(), rel=1e-6)
    shown = invoke("evaluate", run[0], run[1] / "new.parquet", "--json", "--pictures", run[1] / "pictures")
    assert json.loads(shown.stdout)["test"] == pytest.approx(found["test"])
    assert {path.name for path in (run[1] / "pictures").iterdir()} == {"log_prob_x.png", "reliability.png"}


def test_drift_compares_each_column(run, tmp_path):
    reference = customers(300, seed=4).drop(columns=["spent"])
    moved = customers(300, seed=5).drop(columns=["spent", "leaves"])
    moved.loc[::2, "age"] = np.nan
    moved["plan"] = "gold"
    for name, frame in {"reference": reference, "moved": moved}.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    files_given = (tmp_path / "moved.csv", "--reference", tmp_path / "reference.csv")
    result = invoke("drift", run[0], *files_given, "--json", "--picture", tmp_path / "drift.png")
    assert result.exit_code == 0, result.output
    columns = {row["column"]: row for row in json.loads(result.stdout)["columns"]}
    assert {name for name, row in columns.items() if row["drifted"]} == {"age", "plan"}
    assert columns["age"]["new_holes"] > 0.5 and columns["age"]["new_mean"] == pytest.approx(moved["age"].mean())
    assert columns["since"]["reference_mean"][:5] in ("2021-", "2020-")
    shown = invoke("drift", run[0], *files_given)
    assert "Drift: p-value" in shown.stdout and "holes" in shown.stdout
    assert commands.drift(run[0], run[1] / "new.parquet")["rows"] == 300


@pytest.mark.nightly
def test_a_regression_of_the_same_table(tmp_path):
    customers().drop(columns="leaves").to_parquet(tmp_path / "customers.parquet")
    settings = {"epochs": 40, "learning_rate": 0.01, "batch_size": 64, "generative_weight": 0.01}
    metrics = commands.train(str(tmp_path / "customers.parquet"), tmp_path / "run", target="spent", **settings)
    assert metrics["task"] == "regression" and metrics["classes"] is None
    assert metrics["config"]["generative_weight"] == 0.01 and metrics["config"]["batch_size"] == 64
    customers(300, seed=1).to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(ValueError, match=r"new.csv has the columns \['leaves'\], which are not known"):
        commands.score(tmp_path / "run", tmp_path / "new.csv")
    new = customers(300, seed=1).drop(columns="leaves")
    new.to_csv(tmp_path / "new.csv", index=False)
    table = commands.score(tmp_path / "run", tmp_path / "new.csv")
    rmse = np.sqrt(np.mean((table["prediction"] - new["spent"]) ** 2))
    assert rmse < 0.6 * new["spent"].std()
    assert commands.evaluate(tmp_path / "run", tmp_path / "new.csv")["test"]["rmse"] == pytest.approx(rmse)


@pytest.mark.nightly
def test_the_seed_makes_a_run_repeatable(tmp_path):
    customers(100).drop(columns="spent").to_csv(tmp_path / "t.csv", index=False)
    found = [
        commands.train(str(tmp_path / "t.csv"), tmp_path / str(i), target="leaves", epochs=2, seed=seed)["test"]
        for i, seed in enumerate((1, 1, 2))
    ]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("t.csv",), "--target is missing; wanted the name of the column of"),
        (("t.csv", "--target", "y"), "--target 'y' is not a column of"),
        (("t.csv", "--target", "leaves", "--category", "q"), "--category 'q' is not a column of"),
        (("t.csv", "--target", "leaves", "--task", "ranking"), "--task is 'ranking'; wanted one of classification"),
        (("t.csv", "--target", "leaves", "--task", "regression"), "the target 'leaves' holds 'no' in row 0"),
        (("t.csv", "--target", "leaves", "--resume"), "--resume is for the name of a data set"),
        (("t.csv", "--target", "leaves", "--ood", "noise"), "--ood is for the name of a data set"),
        (("t.csv", "--target", "leaves", "--data-dir", "data"), "--data-dir is for the name of a data set"),
        (("t.csv", "--target", "leaves", "--epochs", "0"), "--epochs is 0"),
        (("absent.csv", "--target", "leaves"), "absent.csv does not exist"),
        (("digits", "--target", "leaves"), "--target is for a .csv or .parquet file"),
        (("digits", "--task", "regression"), "--task is for a .csv or .parquet file"),
        (("digits", "--category", "a"), "--category is for a .csv or .parquet file"),
        (("empty.csv", "--target", "y"), "empty.csv has no rows"),
        (("one.csv", "--target", "leaves"), "one.csv has 1 row; wanted at least 20"),
        (("holes.csv", "--target", "leaves"), "holes.csv: the column 'age' has no value in any row"),
        (("lists.parquet", "--target", "leaves"), "lists.parquet: the column 'age' holds a ndarray"),
        (("huge.csv", "--target", "leaves"), "huge.csv: the column 'age' holds a number that is too large"),
        (("alone.csv", "--target", "leaves"), "alone.csv has no columns besides the target 'leaves'"),
    ],
)
def test_what_cannot_be_trained_on_is_one_line_and_leaves_nothing(arguments, message, tmp_path):
    table = customers(60).drop(columns="spent")
    table.assign(age=[[1, 2]] * 60).to_parquet(tmp_path / "lists.parquet")
    made = {"t": table, "empty": pd.DataFrame({"a": [], "y": []}), "one": table[:1], "alone": table[["leaves"]]}
    made |= {"holes": table.assign(age=np.nan), "huge": table.assign(age=[10**400, *range(59)])}
    for name, frame in made.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    dataset = arguments[0] if arguments[0] == "digits" else tmp_path / arguments[0]
    result = invoke("train", dataset, "--out", tmp_path / "out", *arguments[1:])
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.assign(colour=[f"id{i}" for i in range(60)]).rename(columns=ODD_NAMES),
        lambda table: table.assign(leaves=["perhaps", *table["leaves"][1:]], plan="basic"),
        pytest.param(lambda table: table.assign(age=[1e300, *range(59)]), marks=pytest.mark.nightly),
        pytest.param(lambda table: table.assign(age=12 * [7.5] + 48 * [None]), marks=pytest.mark.nightly),
    ],
    ids=["names, and odd ones of columns", "a class of one row, and a constant", "huge", "one value"],
)
def test_odd_tables_give_a_model(change, tmp_path):
    change(customers(60).drop(columns="spent")).to_csv(tmp_path / "t.csv", index=False)
    result = invoke("train", tmp_path / "t.csv", "--target", "leaves", "--out", tmp_path / "run", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "run").iterdir()} == WRITTEN
    assert "<b>plan" not in (tmp_path / "run" / "report.html").read_text()
    names_rows = "has 60 different values in 60 rows" in " ".join(result.stderr.split())
    assert names_rows == ("id0" in (tmp_path / "t.csv").read_text())


def test_every_class_is_in_training_and_its_share_is_tested():
    codes = np.repeat([0, 1, 2, 3], [100, 50, 3, 1])
    inside, test = split_rows(codes, Target("y", "classification", tuple("abcd")), 0)
    assert np.bincount(codes[test], minlength=4).tolist() == [20, 10, 1, 0]
    assert sorted([*inside, *test]) == list(range(154))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    customers(60).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(ValueError, match="is not empty; wanted a new folder"):
        commands.train(str(tmp_path / "t.csv"), tmp_path, target="leaves")
    with files.locked(tmp_path / "run"), pytest.raises(ValueError, match="run is in use by process"):
        commands.train(str(tmp_path / "t.csv"), tmp_path / "run", target="leaves")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_an_interruption_leaves_nothing_and_a_kill_can_be_repeated(tmp_path, monkeypatch):
    customers(60).drop(columns="spent").to_csv(tmp_path / "t.csv", index=False)
    settings = {"dataset": str(tmp_path / "t.csv"), "out": tmp_path / "run", "target": "leaves", "epochs": 1}
    write = files.write

    def interrupted(path, text):
        if path.name == "metrics.json":
            raise KeyboardInterrupt
        write(path, text)

    def remove_a_copy(out, remove=table_training._remove):
        shutil.copytree(out, tmp_path / "killed", ignore=shutil.ignore_patterns(files.LOCK))
        remove(out)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", interrupted)
        patch.setattr(table_training, "_remove", remove_a_copy)
        with pytest.raises(KeyboardInterrupt):
            commands.train(**settings)
    assert not (tmp_path / "run").exists()
    (tmp_path / "killed").rename(tmp_path / "run")  # as a kill would have left it
    assert {path.name for path in (tmp_path / "run").iterdir()} == WRITTEN - {"metrics.json"} | {"config.json"}
    commands.train(**settings)
    assert {path.name for path in (tmp_path / "run").iterdir()} == WRITTEN


def test_runs_and_files_that_do_not_fit_are_explained(run, tmp_path):
    folder, tables = run
    with pytest.raises(ValueError, match="is a run on a table, but digits is a data set"):
        commands.evaluate(folder, "digits")
    with pytest.raises(ValueError, match="--ood is for the name of a data set"):
        commands.evaluate(folder, str(tables / "new.parquet"), ood=["noise"])
    pd.read_parquet(tables / "new.parquet").drop(columns="leaves").to_csv(tmp_path / "plain.csv", index=False)
    with pytest.raises(ValueError, match="plain.csv lacks the column 'leaves'; wanted the target"):
        commands.evaluate(folder, tmp_path / "plain.csv")
    keras.models.load_model(folder / "model.keras").save(tmp_path / "alone.keras")
    with pytest.raises(ValueError, match="--explain needs a rejector"):
        commands.score(tmp_path / "alone.keras", tmp_path / "plain.csv", explain=True)
    assert set(commands.score(tmp_path / "alone.keras", tmp_path / "plain.csv")["prediction"]) == {0, 1}
    with pytest.raises(ValueError, match="is not a run on a table"):
        commands.evaluate(tmp_path / "alone.keras", tmp_path / "plain.csv")
