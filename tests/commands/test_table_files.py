import numpy as np
import pandas as pd
import pytest

from tfp_hybrid.commands.table_files import check_stray_text, is_table, read_rows, read_table
from tfp_hybrid.tables import Columns
from tfp_hybrid.tables.targets import Target

TABLE = pd.DataFrame({"code": ["007", "A12", None], "size": [1.5, None, 2.5], "open": [True, False, True]})


@pytest.fixture
def file(tmp_path):
    """Writes a file and returns its path."""

    def write(content, name="rows.csv"):
        path = tmp_path / name
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path) if name.endswith("parquet") else content.to_csv(path, index=False)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_paths_are_told_from_names():
    assert is_table("a/b.csv") and is_table("b.parquet") and not is_table("digits") and not is_table("b.npz")


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_table_is_read_as_it_was(file, name):
    pd.testing.assert_frame_equal(read_table(file(TABLE, name)), TABLE, check_dtype=False)


def test_an_integer_that_is_too_large_leaves_its_column_numbers(file):
    frame = read_table(file(f"a,b\n,1\n,2\n{10**400},3\n412.5,4\n"))
    np.testing.assert_array_equal(frame["a"].to_numpy(float), [np.nan, np.nan, np.inf, 412.5])


def test_an_index_of_a_parquet_file_is_no_column(file):
    indexed = TABLE.set_index(pd.Index([5, 3, 1], name="key"))
    frame = read_table(file(indexed, "rows.parquet"))
    assert list(frame) == list(TABLE) and frame.index.tolist() == [0, 1, 2]


def test_a_byte_order_mark_is_not_part_of_a_name(file):
    assert list(read_table(file(b"\xef\xbb\xbfa,b\n1,2\n"))) == ["a", "b"]


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "rows.csv cannot be read: it is empty"),
        ("a,b\n", "rows.csv has no rows"),
        ("a,a\n1,2\n", r"rows.csv has the columns \['a'\] more than once"),
        ("a,b\n1,2\n1,2,3\n", "rows.csv cannot be read: a row has more values than there are names"),
        (",a\n0,1\n", "rows.csv: the column 0 has no name; .*index=False"),
        ("a,b\ncafé,1\n".encode("latin-1"), "rows.csv cannot be read: it is not UTF-8 text, as it has a byte 0xe9"),
    ],
)
def test_tables_that_cannot_be_read_are_named(file, content, message):
    with pytest.raises(ValueError, match=message):
        read_table(file(content))


def test_damaged_and_absent_files_are_named(file, tmp_path):
    with pytest.raises(ValueError, match="rows.parquet cannot be read"):
        read_table(file(b"junk", "rows.parquet"))
    with pytest.raises(ValueError, match="absent.csv does not exist"):
        read_table(tmp_path / "absent.csv")


def test_codes_with_zeros_in_front_stay_text(file):
    """Although the file to score has nothing but digits in this column."""
    columns = Columns.from_frame(TABLE)
    new = pd.DataFrame({"open": [True, True], "size": [2.0, 3.0], "code": ["007", "7"]})
    x, y = read_rows(file(new), columns)
    levels = columns.columns[0].kind.levels
    assert x[:, 0].tolist() == [levels.index("007"), len(levels)] and y is None


def test_the_target_may_be_present(file):
    columns = Columns.from_frame(TABLE)
    target = Target("y", "classification", ("01", "02"))
    x, y = read_rows(file(TABLE.assign(y=["01", "02", "01"])), columns, target)
    assert x.shape == (3, 3) and y.tolist() == ["01", "02", "01"]
    with pytest.raises(ValueError, match=r"rows.csv has the columns \['z'\], which are not known"):
        read_rows(file(TABLE.assign(z=1)), columns, target)
    with pytest.raises(ValueError, match=r"rows.csv lacks the columns \['open'\]"):
        read_rows(file(TABLE.drop(columns="open")), columns, target)


def test_a_few_words_among_numbers_are_named():
    column = np.arange(100).astype(str).astype(object)
    column[[17, 40]] = "unknown"
    with pytest.raises(
        ValueError, match="t.csv: the column 'a' holds numbers, but text in 2 of 100 .*'unknown' in row 17"
    ):
        check_stray_text(pd.DataFrame({"a": column}), "t.csv")
    column[::3] = "A1"  # codes, then
    check_stray_text(pd.DataFrame({"a": column, "b": np.arange(100)}), "t.csv")
