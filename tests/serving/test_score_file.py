"""`commands.score_file` and `tfp-hybrid score` of tables that are read block by block."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.testing

from tfp_hybrid import cli, commands, files
from tfp_hybrid.commands import blocks, streaming

KILLING = pathlib.Path(__file__).with_name("killed_scoring.py")


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 1,000 rows or 10,000 bytes, of which 300 values are in memory at a time."""
    monkeypatch.setattr(blocks, "ROWS", 1000)
    monkeypatch.setattr(blocks, "BYTES", 10_000)
    monkeypatch.setattr(streaming, "_VALUES", 300)


@pytest.fixture(scope="module")
def parquet(run, tmp_path_factory):
    """The 5,000 rows in row groups of 700 rows."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    run.rows.to_parquet(path, row_group_size=700, index=False)
    return path


def test_a_table_is_scored_in_its_order(run, parquet, tmp_path, small_blocks):
    out, rows = commands.score_file(run.folder, parquet, tmp_path / "s.parquet", keep=["key", "name"])
    found = pd.read_parquet(out)
    assert rows == len(found) == 5000
    np.testing.assert_array_equal(found["key"], run.rows["key"])
    np.testing.assert_allclose(found["log_prob_x"], run.model.log_prob(run.x), rtol=1e-4, atol=1e-4)
    in_memory = commands.score(run.folder, parquet)
    assert list(found) == ["key", "name", *in_memory]
    np.testing.assert_array_equal(found["prediction"], in_memory["prediction"])
    np.testing.assert_array_equal(found["abstain"], in_memory["abstain"])
    assert [path.name for path in tmp_path.iterdir()] == ["s.parquet"]


@pytest.mark.parametrize("kind", ["parquet", "csv", "folder"])
def test_shards_together_are_one_run(run, parquet, tmp_path, small_blocks, kind):
    file = parquet
    if kind == "csv":
        run.rows.to_csv(file := tmp_path / "rows.csv", index=False)
    if kind == "folder":
        (file := tmp_path / "rows").mkdir()
        for part in range(3):
            run.rows[part::3].to_parquet(file / f"{part}.parquet", row_group_size=400, index=False)
        (file / "_SUCCESS").touch()
    whole, _ = commands.score_file(run.folder, file, tmp_path / "s.parquet", keep=["key"])
    parts = [commands.score_file(run.folder, file, whole, keep=["key"], shard=(i, 3)) for i in range(3)]
    assert [path.name for path, _ in parts] == [f"s-0000{i}-of-00003.parquet" for i in range(3)]
    assert min(rows for _, rows in parts) > 1000
    together = pa.concat_tables(pq.read_table(path) for path, _ in parts)
    assert together.equals(pq.read_table(whole))
    assert set(together["key"].to_pylist()) == set(range(5000))


def test_a_shard_may_have_no_rows(run, tmp_path):
    run.rows.to_parquet(tmp_path / "rows.parquet", index=False)  # one row group
    options = {"keep": ["key"], "shard": (0, 2)}
    empty, rows = commands.score_file(run.folder, tmp_path / "rows.parquet", tmp_path / "s.parquet", **options)
    full, _ = commands.score_file(
        run.folder, tmp_path / "rows.parquet", tmp_path / "s.parquet", keep=["key"], shard=(1, 2)
    )
    assert rows == 0 and pq.read_schema(empty) == pq.read_schema(full)


def test_an_interrupted_run_resumes(run, parquet, tmp_path, small_blocks, monkeypatch):
    expected, _ = commands.score_file(run.folder, parquet, tmp_path / "unbroken.parquet")
    out, write, read = tmp_path / "s.parquet", streaming._write_part, blocks.ParquetBlock.read
    written, started = [], []

    def full_disk(path, tables):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path.name)
        write(path, tables)

    monkeypatch.setattr(streaming, "_write_part", full_disk)
    with pytest.raises(OSError, match="No space left"):
        commands.score_file(run.folder, parquet, out)
    assert not out.exists() and {"000000.parquet", "000001.parquet"} <= {
        p.name for p in (tmp_path / ".parts_s.parquet").iterdir()
    }
    monkeypatch.setattr(streaming, "_write_part", write)
    monkeypatch.setattr(
        blocks.ParquetBlock, "read", lambda self, *args: started.append(self.first_row) or read(self, *args)
    )
    commands.score_file(run.folder, parquet, out)
    assert started == [2 * 700, 3 * 700, 4 * 700, 5 * 700, 6 * 700]
    assert out.read_bytes() == expected.read_bytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks and kills processes")
@pytest.mark.parametrize(
    "kills", [pytest.param(1, marks=pytest.mark.integration), pytest.param(12, marks=pytest.mark.nightly)]
)
def test_killed_again_and_again_it_is_the_same_file(run, parquet, tmp_path, kills):
    command = [sys.executable, KILLING, run.folder, parquet, tmp_path, str(kills)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "kills.json").read_text()) == {"kills": kills}
    assert (tmp_path / "killed.parquet").read_bytes() == (tmp_path / "unbroken.parquet").read_bytes()
    assert len(pd.read_parquet(tmp_path / "killed.parquet")) == 5000
    assert not list(tmp_path.glob(".*"))


def test_parts_of_another_run_are_refused(run, parquet, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "_join", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        commands.score_file(run.folder, parquet, tmp_path / "s.parquet")
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has parts of another run"):
        commands.score_file(run.folder, parquet, tmp_path / "s.parquet", abstain_below=3)
    with files.locked(tmp_path / ".parts_s.parquet"):
        with pytest.raises(ValueError, match="is in use by process"):
            commands.score_file(run.folder, parquet, tmp_path / "s.parquet")
    assert commands.score_file(run.folder, parquet, tmp_path / "s.parquet")[1] == 5000


def test_csv_with_text_and_holes_is_read_as_in_memory(table_run, tmp_path, small_blocks):
    """With line ends in quotes, CRLF, an empty line, and no end of the last line."""
    frame = table_run.frame.assign(note=['say "a,\n\nb"', "", "plain"] * 133 + ["x"], key=range(400), churn="left")
    text = frame.to_csv(index=False, lineterminator="\r\n").replace("399,left", "399,left\r\n").rstrip()
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(blocks.blocks_of([tmp_path / "t.csv"])) > 1
    out, rows = commands.score_file(table_run.folder, tmp_path / "t.csv", tmp_path / "s.parquet", keep=["key", "note"])
    found = pd.read_parquet(out)
    assert rows == 400
    np.testing.assert_array_equal(found["key"], range(400))
    assert found["note"].fillna("").tolist() == frame["note"].tolist()
    mean = table_run.model.predict(table_run.frame, verbose=0)
    np.testing.assert_array_equal(found["prediction"], table_run.classes[mean.argmax(-1)])
    np.testing.assert_allclose(found["log_prob_x"], table_run.model.log_prob(table_run.frame), rtol=1e-4, atol=1e-4)


def test_a_kept_column_of_csv_with_numbers_and_text(run, tmp_path, small_blocks):
    rows = run.rows.assign(key=["a" if i == 4999 else i for i in range(5000)])
    rows.to_csv(tmp_path / "rows.csv", index=False)
    out, _ = commands.score_file(run.folder, tmp_path / "rows.csv", tmp_path / "s.parquet", keep=["key"])
    assert pd.read_parquet(out)["key"].tolist() == [*map(str, range(4999)), "a"]


@pytest.mark.parametrize("sizes", [[5], [2500, 10, 10, 3000], [1000, 1000], [1, 999, 1, 0, 1001]])
def test_parquet_blocks_hold_each_row_once(tmp_path, small_blocks, sizes):
    rows, first = np.arange(sum(sizes)), 0
    with pq.ParquetWriter(tmp_path / "t.parquet", pa.schema({"i": pa.int64()})) as writer:
        for size in sizes:
            writer.write_table(pa.table({"i": rows[first : first + size]}))
            first += size
    found = blocks.blocks_of([tmp_path / "t.parquet"])
    assert sum(block.rows for block in found) == len(rows) and max(block.rows for block in found) <= 1000
    read = []
    for block in found:
        here = [(first, part) for first, part in block.read(70, None, ())]
        assert sum(len(part) for _, part in here) == block.rows and max(len(part) for _, part in here) <= 70
        assert all(part["i"][0].as_py() == first for first, part in here)
        read += [i for _, part in here for i in part["i"].to_pylist()]
    np.testing.assert_array_equal(read, rows)


def test_rows_that_cannot_be_scored_are_explained(run, tmp_path, small_blocks):
    bad = run.rows.assign(width=run.rows["width"].where(run.rows.index != 4321))
    bad.to_parquet(tmp_path / "bad.parquet", row_group_size=700)
    with pytest.raises(ValueError, match=r"bad.parquet, in the rows from 4,\d\d\d on: .*'width' is NaN or missing"):
        commands.score_file(run.folder, tmp_path / "bad.parquet", tmp_path / "s.parquet")
    run.rows[:0].to_parquet(tmp_path / "none.parquet")
    run.rows[["width"]].to_parquet(tmp_path / "narrow.parquet")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "none.parquet": "has no rows",
        "narrow.parquet": "lacks the columns .'height'.",
        "junk.parquet": "cannot be read",
        "empty": "has no files; wanted .csv or .parquet files",
        "rows.npz": "is not a table",
    }.items():
        with pytest.raises(ValueError, match=message):
            commands.score_file(run.folder, tmp_path / name, tmp_path / "s.parquet")


def invoke(*arguments):
    return typer.testing.CliRunner().invoke(cli.app, ["score", *map(str, arguments)])


@pytest.mark.integration
def test_the_command_scores_a_shard(run, parquet, tmp_path):
    result = invoke(run.folder, parquet, "--out", tmp_path / "s.parquet", "--shard", "1/2", "--keep", "key")
    assert result.exit_code == 0, result.output
    assert "2,200 rows to" in result.stderr.replace("\n", "")
    found = pd.read_parquet(tmp_path / "s-00001-of-00002.parquet")
    np.testing.assert_array_equal(found["key"], run.rows["key"][4 * 700 :])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--shard", "2/2", "--out", "s.parquet"], "--shard is '2/2'; wanted i/n with i from 0 to n - 1"),
        (["--shard", "first", "--out", "s.parquet"], "--shard is 'first'"),
        (["--shard", "0/2"], "--shard 0/2 is given; wanted a .csv or .parquet file, and --out FILE.parquet"),
        (["--keep", "key", "--out", "s.csv"], "--keep key is given"),
        (["--keep", "key", "--out", "s.parquet", "--explain"], "--keep key is given"),
        (["--out", "absent/s.parquet"], "the folder absent does not exist"),
    ],
)
def test_options_are_checked(run, parquet, options, message):
    result = invoke(run.folder, parquet, *options)
    assert result.exit_code == 1 and message in result.stderr.replace("\n", " ")


def test_the_input_is_never_written_over(run, parquet, tmp_path):
    kept = parquet.read_bytes()
    for file, out in ((parquet, parquet), (parquet.parent, parquet.parent / "s.parquet")):
        with pytest.raises(ValueError, match="is among the tables to score"):
            commands.score_file(run.folder, file, out)
    assert parquet.read_bytes() == kept and [path.name for path in parquet.parent.iterdir()] == [parquet.name]


def test_a_run_without_a_finished_part_does_not_stand_in_the_way(run, tmp_path):
    run.rows[:50].assign(**{run.rows.columns[0]: "text"}).to_csv(tmp_path / "bad.csv", index=False)
    run.rows[:50].to_csv(tmp_path / "good.csv", index=False)
    with pytest.raises(ValueError):
        commands.score_file(run.folder, tmp_path / "bad.csv", tmp_path / "s.parquet")
    assert commands.score_file(run.folder, tmp_path / "good.csv", tmp_path / "s.parquet")[1] == 50
