"""Tables for models with side inputs: their columns are read beside those of x, by Scorer and commands."""

import types

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import typer.testing
from helpers import blobs, randomize, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import cli, commands, serving
from tfp_hybrid.commands import blocks, streaming
from tfp_hybrid.uncertainty import NegativeLogProb, Rejector

ROWS = 600
STUDENTS = ["01", "02", "7", "ann"]  # the first three look like numbers in a csv file
CLINICS = [-3, 5, 2**40]
RNG = np.random.default_rng(0)


def mixed(head, groups):
    return hy.heads.MixedEffects(head, groups, train_size=ROWS)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a model with ids of strings and a slope, without names of columns."""
    groups = {"student": hy.heads.Group(STUDENTS, slopes=["days"])}
    model = tiny_model(mixed(hy.heads.Normal(), groups), compile=False)
    x = blobs(ROWS)[0]
    side = {"student": RNG.choice(STUDENTS, ROWS), "days": RNG.normal(size=ROWS).astype("float32")}
    side["student"][::50] = "new"
    frame = pd.DataFrame({"days": side["days"], "width": x[:, 0], "student": side["student"], "height": x[:, 1]})
    return saved(model, {"x": x} | side, frame.assign(key=np.arange(ROWS)), tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def table_run(tmp_path_factory):
    """A run of counts on a table with holes and text, with a group of integers and an exposure."""
    frame = pd.DataFrame({"age": RNG.integers(18, 90, ROWS).astype(float), "plan": RNG.choice(["gold", "free"], ROWS)})
    frame.loc[::9, "age"] = np.nan
    columns = hy.tables.Columns.from_frame(frame)
    flow = hy.bijectors.RealNVP(columns.latent_shape, couplings=2, hidden_units=(8,))
    flow = hy.bijectors.FusedChain([columns, flow], columns.event_shape)
    counts = hy.heads.Offset(hy.heads.ExponentialFamily("Poisson"), exposure="hours")
    model = hy.HybridModel(hy.flow_distribution(flow), mixed(counts, {"clinic": hy.heads.Group(CLINICS)}))
    randomize(model.trainable_weights)
    frame = frame.assign(clinic=RNG.choice(CLINICS, ROWS), hours=RNG.gamma(2, 1, ROWS))
    return saved(model, frame, frame.assign(key=np.arange(ROWS)), tmp_path_factory.mktemp("table_run"))


def saved(model, given, rows, folder):
    rejector = Rejector(model, NegativeLogProb()).fit_threshold(given, quantile=0.9)
    model.save(folder / "model.keras")
    rejector.save(folder / "rejector.keras")
    return types.SimpleNamespace(folder=folder, model=model, rejector=rejector, given=given, rows=rows)


@pytest.fixture(params=["run", "table_run"])
def case(request):
    return request.getfixturevalue(request.param)


def assert_answers(found, case, rows=slice(None)):
    """They are those of the model and of the rejector that were saved."""
    p_y, log_prob = case.model.predict_distribution(case.given)
    answers = case.rejector.predict(case.given, verbose=0)
    close = dict(rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["prediction"], case.model.predict(case.given, verbose=0)[rows], **close)
    np.testing.assert_allclose(found["uncertainty"], np.asarray(p_y.stddev())[rows], **close)
    np.testing.assert_allclose(found["log_prob_x"], log_prob[rows], **close)
    np.testing.assert_array_equal(found["abstain"], answers["abstain"][rows])


@pytest.mark.parametrize("kind", ["DataFrame", "Table", "dict"])
def test_answers_are_those_of_the_model(case, kind):
    table = pa.Table.from_pandas(case.rows, preserve_index=False)
    columns = {name: column.to_numpy() for name, column in case.rows.items()}
    given = {"DataFrame": case.rows, "Table": table, "dict": columns}[kind]
    found = serving.Scorer(case.folder, keep=["key"])(given)
    assert type(found) is type(given)
    found = found.to_pandas() if kind == "Table" else pd.DataFrame(found)
    np.testing.assert_array_equal(found["key"], np.arange(ROWS))
    assert_answers(found, case)


def test_the_ids_may_be_kept(case):
    group = "student" if "student" in case.rows else "clinic"
    found = serving.Scorer(case.folder, keep=[group, "key"])(case.rows)
    np.testing.assert_array_equal(found[group], case.rows[group])
    assert_answers(found, case)


def test_whole_inputs_beside_side_inputs(run):
    found = serving.Scorer(run.folder, keep=["key"])(run.given | {"key": np.arange(ROWS)})
    assert_answers(found, run)
    lists = pa.table({"x": list(run.given["x"]), "student": run.given["student"], "days": run.given["days"]})
    assert_answers(serving.Scorer(run.folder)(lists).to_pandas(), run)


def test_codes_of_pandas_and_arrow_are_ids(run):
    for table in (
        run.rows.astype({"student": "category"}),
        pa.Table.from_pandas(run.rows.astype({"student": "category"}), preserve_index=False),
        run.rows.astype({"student": "string", "days": "Float32"}),
    ):
        found = serving.Scorer(run.folder, keep=["key"])(table)
        assert_answers(found if isinstance(found, pd.DataFrame) else found.to_pandas(), run)


def test_no_rows_have_the_same_columns(case):
    score = serving.Scorer(case.folder, keep=["key"])
    none, some = score(case.rows[:0]), score(case.rows[:2])
    assert len(none) == 0 and list(none) == list(some)
    assert (none.drop(columns="key").dtypes == some.drop(columns="key").dtypes).all()


def test_side_inputs_that_cannot_be_used_are_explained(run, table_run):
    student, hours = (lambda **new: run.rows.assign(**new)), (lambda **new: table_run.rows.assign(**new))
    wrong = [
        (
            run,
            run.rows.drop(columns="student"),
            r"table lacks the columns .'student'.; wanted those of the side inputs",
        ),
        (run, student(student=np.arange(ROWS)), "'student' holds 0; wanted strings"),
        (run, student(student=pd.array(["ann"] * (ROWS - 1) + [None], "string")), "'student' is missing .* in row 599"),
        (run, student(days=np.nan), "'days' holds nan in row 0"),
        (table_run, hours(hours=0.0), "'hours' holds 0.0 in row 0; wanted exposures > 0"),
        (table_run, hours(clinic="a"), "'clinic' holds strings, but its levels are integers"),
    ]
    for case, table, message in wrong:
        with pytest.raises(ValueError, match=message):
            serving.Scorer(case.folder, keep=["key"])(table)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_commands_read_them_from_files(case, suffix, tmp_path, monkeypatch):
    """As a whole, and in blocks; ids of a csv file that look like numbers stay text, as their levels are."""
    monkeypatch.setattr(blocks, "BYTES", 10_000)
    monkeypatch.setattr(streaming, "_VALUES", 300)
    write(case.rows.drop(columns="key"), tmp_path / f"alone{suffix}")
    assert_answers(commands.score(case.folder, tmp_path / f"alone{suffix}"), case)
    file = write(case.rows, tmp_path / f"rows{suffix}")
    group = "student" if "student" in case.rows else "clinic"
    out, rows = commands.score_file(case.folder, file, tmp_path / "s.parquet", keep=["key", group])
    found = pd.read_parquet(out)
    assert rows == ROWS
    assert found[group].tolist() == case.rows[group].tolist() and found["key"].tolist() == list(range(ROWS))
    assert_answers(found, case)


def test_blocks_of_numbers_alone_are_ids_of_text(run, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BYTES", 1_000)
    order = np.argsort(run.rows["student"].to_numpy() == "ann", kind="stable")
    file = write(run.rows.iloc[order], tmp_path / "rows.csv")
    found = pd.read_parquet(commands.score_file(run.folder, file, tmp_path / "s.parquet", keep=["key"])[0])
    assert_answers(found, run, order)


def test_known_names_are_found_in_any_order(run, tmp_path):
    """Other columns are no inputs then; of a Parquet file they are not read."""
    model = hy.HybridModel(run.model.distribution, run.model.head)
    model.feature_names = ("height", "width")
    expected = model.predict(run.given | {"x": run.given["x"][:, ::-1]}, verbose=0)
    model.save(tmp_path / "model.keras")
    file = write(run.rows.assign(unused="text"), tmp_path / "rows.parquet")
    found = pd.read_parquet(commands.score_file(tmp_path, file, tmp_path / "s.parquet")[0])
    for table in (found, commands.score(tmp_path, file)):
        np.testing.assert_allclose(table["prediction"], expected, rtol=1e-4, atol=1e-4)


def test_files_without_them_are_explained(run, tmp_path):
    file = write(run.rows.drop(columns=["student", "key"]), tmp_path / "rows.csv")
    for score in (commands.score, lambda *paths: commands.score_file(*paths, tmp_path / "s.parquet")):
        with pytest.raises(ValueError, match="rows.csv.* lacks the columns .'student'."):
            score(run.folder, file)
    np.savez(tmp_path / "rows.npz", x=run.given["x"])
    with pytest.raises(ValueError, match=r"no columns for the side inputs .'student', 'days'.; wanted a .csv or"):
        commands.score(run.folder, tmp_path / "rows.npz")


def test_commands_of_x_alone_name_the_side_inputs(run, table_run, tmp_path):
    file = write(table_run.rows, tmp_path / "rows.csv")
    calls = [
        lambda: commands.score(run.folder, file, explain=True),
        lambda: commands.drift(run.folder, file),
        lambda: commands.drift(run.folder, file, reference=file),
        lambda: commands.evaluate(run.folder, "digits"),
        lambda: commands.export(run.folder, format="onnx", out=tmp_path / "model.onnx"),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="`model` has the side inputs"):
            call()


def test_a_shell_sees_the_error(run, tmp_path):
    file = write(run.rows.drop(columns="days"), tmp_path / "rows.csv")
    result = typer.testing.CliRunner().invoke(cli.app, ["score", str(run.folder), str(file)])
    assert result.exit_code == 1 and "lacks the columns ['days']" in result.stderr.replace("\n", " ")


def test_numbers_as_names_in_order_are_read_in_blocks(tmp_path):
    model = tiny_model(hy.heads.Normal(), couplings=1, compile=False)
    model.save(tmp_path / "model.keras")
    x = blobs(20)[0]
    file = write(pd.DataFrame(x), tmp_path / "rows.csv")
    found = pd.read_parquet(commands.score_file(tmp_path / "model.keras", file, tmp_path / "s.parquet")[0])
    np.testing.assert_allclose(found["prediction"], model.predict(x, verbose=0), rtol=1e-4, atol=1e-5)


def write(frame, path):
    frame = frame.rename(columns=str)
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)
    return path
