import decimal
import io
import types
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow_probability as tfp

from tfp_hybrid.commands.inputs import read_inputs

tfd = tfp.distributions
NAMES = ("a", "b")


def model_of(*shape, names=None):
    """What `read_inputs` needs of a model."""
    distribution = tfd.Independent(tfd.Normal(np.zeros(shape, "float32"), 1.0), len(shape))
    return types.SimpleNamespace(distribution=distribution, feature_names=names)


@pytest.fixture
def read(tmp_path):
    """Reads what a file of that content gives."""

    def read(content, suffix=".csv", model=None, names=None):
        path = tmp_path / f"rows{suffix}"
        if isinstance(content, (str, bytes)):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        else:
            pq.write_table(content, path)
        return read_inputs(path, model or model_of(2), names)

    return read


@pytest.mark.parametrize("names", [None, NAMES])
@pytest.mark.parametrize(
    "rows",
    ["0,1,2\n1,3,4\n", "9,1,2\n8,3,4\n", "1,2\n3,4,5\n", "1,2,3\n4,5\n", "r,1,\n", "1,2,\n", "1,2,nan\n"],
)
def test_rows_with_more_values_than_names_are_refused(read, rows, names):
    """Pandas would make the first column an index, and 0, 1, ... the usual one."""
    with pytest.raises(ValueError, match="a row has more values than there are names"):
        read("a,b\n" + rows, names=names)


def test_columns_are_taken_by_name(read):
    wanted = [[1, 2], [3, 4]]
    text = "b,other,a\n2,x,1\n4,y,3\n"
    np.testing.assert_array_equal(read(text, names=NAMES), wanted)
    np.testing.assert_array_equal(read(text, model=model_of(2, names=NAMES)), wanted)
    # The model's own names count, not those of a file beside it.
    np.testing.assert_array_equal(read(text, model=model_of(2, names=NAMES), names=("b", "a")), wanted)


@pytest.mark.parametrize("header", ["a,a", "a,b,a", "b,a,b"])
@pytest.mark.parametrize("names", [None, NAMES])
def test_a_name_that_is_there_twice_is_refused(read, header, names):
    columns = header.split(",")
    table = pa.Table.from_arrays([pa.array([float(i)]) for i in range(len(columns))], names=columns)
    text = header + "\n" + ",".join("1" for _ in columns) + "\n"
    for content, suffix in ((text, ".csv"), (table, ".parquet")):
        with pytest.raises(ValueError, match=f"has the columns .'{columns[-1]}'. more than once"):
            read(content, suffix, names=names)


@pytest.mark.parametrize(
    "header, message",
    [
        ("1,0,2,3", "numbers as column names, such as 1"),
        ("1,2,3,4", "numbers as column names, such as 1"),
        ("0.5,0.5,1,2", "numbers as column names"),
        ("x2,x1,x3,x4", "numbered columns out of order, x2, x1, x3, x4"),
        ("pixel0,pixel2,pixel1,pixel10", "numbered columns out of order"),
        ("p0_0,p1_0,p0_1,p1_1", "numbered columns out of order"),
    ],
)
def test_columns_out_of_order_are_refused_without_names(read, header, message):
    for suffix in (".csv", ".parquet"):
        content = header + "\n1,2,3,4\n"
        if suffix == ".parquet":
            if len(set(header.split(","))) < 4:
                continue
            content = pa.table({name: [1.0] for name in header.split(",")})
        with pytest.raises(ValueError, match=message):
            read(content, suffix, model_of(2, 2))


@pytest.mark.parametrize(
    "header", ["0,1,2,3", "x1,x2,x3,x10", "p0_0,p0_1,p1_0,p1_1", "width,height,a2,a1", "pixel0,pixel1,pixel2,pixel3"]
)
def test_columns_in_order_are_taken_without_names(read, header):
    np.testing.assert_array_equal(read(header + "\n1,2,3,4\n", model=model_of(2, 2)), [[[1, 2], [3, 4]]])


def parquet(**columns):
    return pa.table(columns)


def test_parquet_takes_booleans_nullable_integers_and_decimals(read):
    integers = pa.array([3, 4], pa.int64())
    for column, wanted in (
        (pa.array([True, False]), [1, 0]),
        (integers, [3, 4]),
        (pa.array([decimal.Decimal("1.5"), decimal.Decimal(-2)]), [1.5, -2]),
        (pa.array([1.5, 2.5], pa.float16()), [1.5, 2.5]),
        (pa.array([7, 8], pa.uint8()), [7, 8]),
    ):
        np.testing.assert_array_equal(read(parquet(a=column, b=integers), ".parquet"), np.c_[wanted, [3, 4]])


def test_pandas_nullable_dtypes_are_taken(tmp_path):
    frame = pd.DataFrame({"a": pd.array([1, 2], "Int64"), "b": pd.array([True, False], "boolean")})
    frame.to_parquet(tmp_path / "rows.parquet")
    np.testing.assert_array_equal(read_inputs(tmp_path / "rows.parquet", model_of(2)), [[1, 1], [2, 0]])


@pytest.mark.parametrize(
    "column, message",
    [
        (pa.array([1, None], pa.int64()), "column 'b' is NaN or missing in row 1"),
        (pa.array([None, True]), "column 'b' is NaN or missing in row 0"),
        (pa.array([decimal.Decimal(1), None]), "column 'b' is NaN or missing in row 1"),
        (pa.array(["1", "2"]), "column 'b' has dtype str and holds '1' in row 0; wanted real numbers"),
        (pa.array([1, 2], pa.timestamp("s")), "column 'b' has dtype datetime"),
        (pa.array(["x", "y"]).dictionary_encode(), "column 'b' has dtype category"),
        (pa.array([[1], [2]]), "column 'b' has dtype object"),
        (pa.array([b"x", b"y"]), "column 'b' has dtype object"),
    ],
)
def test_columns_that_are_not_numbers_are_named(read, column, message):
    with pytest.raises(ValueError, match=message):
        read(parquet(a=pa.array([1.0, 2.0]), b=column), ".parquet")


def test_words_among_numbers_are_named(read):
    with pytest.raises(ValueError, match="column 'b' has dtype str and holds 'x' in row 1; wanted real numbers"):
        read("a,b\n1,2\n3,x\n")


def npz(array=None, **header):
    """An archive with one array, or with one whose header claims something else."""
    part = io.BytesIO()
    if array is not None:
        np.lib.format.write_array(part, array, allow_pickle=True)
    else:
        np.lib.format.write_array_header_1_0(part, header)
        part.write(bytes(64))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", part.getvalue())
    return whole.getvalue()


def renamed_npy():
    part = io.BytesIO()
    np.save(part, np.zeros((3, 2)))
    return part.getvalue()


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a zip file"),
        (renamed_npy(), "not a zip file"),
        (b"PK\x05\x06" + bytes(18), "it has the arrays ..; wanted one named 'x'"),
        (
            npz(descr="<f8", fortran_order=False, shape=(3_150_000_000, 2)),
            "50,400,000,000 bytes, but the file has 64",
        ),
        (npz(descr="<f8", fortran_order=False, shape=(10**30, 2)), "but the file has 64"),
        (npz(descr="<f8", fortran_order=False, shape=(-4, -2)), "has shape"),
        (npz(descr="|O", fortran_order=False, shape=(3, 2)), "dtype object; wanted numbers"),
        (npz(descr="<c16", fortran_order=False, shape=(2, 2)), "dtype complex128; wanted numbers"),
        (npz(np.zeros((3, 2)))[:-40], "not a zip file"),
        (npz(np.zeros((2**23 + 1, 2), "float32")), "unpacks from .* wanted at most 100 times as many"),
    ],
)
def test_archives_that_claim_more_than_there_is_are_refused(read, content, message):
    with pytest.raises(ValueError, match=f"rows.npz cannot be read: .*{message}"):
        read(content, ".npz")


def test_damaged_archives_are_value_errors(read):
    """Each byte in turn."""
    whole = npz(np.arange(6.0).reshape(3, 2))
    for place in range(len(whole)):
        for byte in (0x00, 0xFF):
            damaged = bytearray(whole)
            damaged[place] = byte
            try:
                read(bytes(damaged), ".npz")
            except ValueError as error:
                assert "rows.npz" in str(error)
