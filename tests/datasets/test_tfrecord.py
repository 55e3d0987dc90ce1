import gzip
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import tiny_model

from tfp_hybrid.datasets import from_tfrecord


def rows(count=500, first=0):
    """Rows that are numbered by their response."""
    rng = np.random.default_rng(first)
    return {
        "row": np.arange(first, first + count, dtype=np.float32),
        "a": rng.normal(size=count).astype(np.float32),
        "vector": rng.normal(size=(count, 3)).astype(np.float32),
        "whole": rng.integers(-5, 5, count),
        "label": rng.integers(0, 2, count),
        "text": np.array([b"text"] * count),
    }


def x_of(columns, features):
    return np.concatenate([columns[name].reshape(len(columns["row"]), -1) for name in features], 1).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Writes columns to a file, one `tf.train.Example` a row."""

    def write(columns, name="rows.tfrecord"):
        options = tf.io.TFRecordOptions(compression_type="GZIP" if name.endswith(".gz") else "")
        with tf.io.TFRecordWriter(str(tmp_path / name), options) as writer:
            for i in range(len(columns["row"])):
                example = tf.train.Example()
                for key, column in columns.items():
                    value, feature = np.ravel(column[i]).tolist(), example.features.feature[key]
                    kind = {"f": feature.float_list, "i": feature.int64_list, "S": feature.bytes_list}[
                        column.dtype.kind
                    ]
                    kind.value.extend(value)
                writer.write(example.SerializeToString())
        return tmp_path / name

    return write


def rows_of(data):
    """All x, and all y."""
    x, y = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(x), np.concatenate(y)


@pytest.mark.parametrize("features", [["a"], ["whole", "a"], ["vector"], ["a", "vector", "whole"]])
@pytest.mark.parametrize("name", ["rows.tfrecord", "rows.tfrecord.gz"])
def test_without_shuffling_the_batches_are_those_of_the_file(write, features, name):
    columns = rows()
    data = from_tfrecord(write(columns, name), features, "row", 64, shuffle_rows=0)
    assert data.element_spec[0].shape[1:] == x_of(columns, features).shape[1:]
    x, y = rows_of(data)
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(x, x_of(columns, features))
    np.testing.assert_array_equal(y, columns["row"])
    assert [len(batch) for _, batch in data] == [64] * 7 + [52]


@pytest.mark.parametrize("shuffle_rows", [1, 64, 10_000])
def test_shuffling_gives_each_row_of_all_files_once_an_epoch_in_another_order(write, shuffle_rows):
    parts = [rows(200), rows(7, first=200), rows(293, first=207)]
    paths = [write(part, f"{i}.tfrecord") for i, part in enumerate(parts)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    data = from_tfrecord(paths, ["a", "vector"], "row", 32, shuffle_rows=shuffle_rows)
    orders = []
    for _ in range(2):
        x, y = rows_of(data)
        orders.append(y)
        np.testing.assert_array_equal(np.sort(y), whole["row"])
        np.testing.assert_array_equal(x, x_of(whole, ["a", "vector"])[y.astype(int)])
    assert (orders[0] != orders[1]).any() and (orders[0] != whole["row"]).any()


def test_the_global_seed_repeats_all_epochs(write):
    path = write(rows())

    def epochs(seed):
        keras.utils.set_random_seed(seed)
        data = from_tfrecord(path, ["a"], "row", 64, shuffle_rows=128)
        return np.stack([rows_of(data)[1] for _ in range(3)])

    np.testing.assert_array_equal(epochs(1), epochs(1))
    assert (epochs(1) != epochs(2)).any()


@pytest.mark.parametrize("count", [None, 500])
def test_the_number_of_batches_is_known(write, count):
    paths = [write(rows(400), "0.tfrecord"), write(rows(100, first=400), "1.tfrecord.gz")]
    assert len(from_tfrecord(paths, ["a"], "row", 64, rows=count)) == 8
    data = from_tfrecord(paths, ["a"], "row", 64, rows=count, drop_remainder=True)
    assert len(data) == len(list(data)) == 7
    assert [tuple(part.shape) for part in data.element_spec] == [(64, 1), (64,)]


def test_a_negative_number_of_rows_is_an_error(write):
    with pytest.raises(ValueError, match="rows is -5; wanted the number of rows"):
        from_tfrecord(write(rows()), ["a"], "row", 64, rows=-5)


def test_a_wrong_number_of_rows_is_an_error(write):
    with pytest.raises(tf.errors.FailedPreconditionError, match="expected to contain 10 elements but contained only 8"):
        list(from_tfrecord(write(rows()), ["a"], "row", 64, rows=600))


def test_what_cannot_be_streamed_is_told_before_any_work(write, tmp_path):
    columns = rows()
    path = write(columns)
    other = write(columns | {"a": columns["vector"]}, "other.tfrecord")
    (tmp_path / "text.tfrecord").write_text("no TFRecord file, though long enough to be one")
    (tmp_path / "cut.tfrecord").write_bytes(path.read_bytes()[:-5])
    with tf.io.TFRecordWriter(str(tmp_path / "bytes.tfrecord")) as writer:
        writer.write(b"no Example")
    with pytest.raises(FileNotFoundError, match="absent.tfrecord"):
        from_tfrecord(tmp_path / "absent.tfrecord", ["a"], "row", 4)
    for wanted, arguments in {
        "text.tfrecord is not a readable TFRecord": (tmp_path / "text.tfrecord", ["a"], "row", 4),
        "bytes.tfrecord is not a readable TFRecord": (tmp_path / "bytes.tfrecord", ["a"], "row", 4),
        "cut.tfrecord is not a readable TFRecord": (tmp_path / "cut.tfrecord", ["a"], "row", 4),
        "empty.tfrecord is not a readable TFRecord .*it has no rows": (
            write(rows(0), "empty.tfrecord"),
            ["a"],
            "row",
            4,
        ),
        "no feature 'c'; it has a, label, row, text, vector, whole": (path, ["c"], "row", 4),
        "no feature 'y'": (path, ["a"], "y", 4),
        "'text' of .*rows.tfrecord is a bytes_list; wanted numbers": (path, ["text"], "row", 4),
        "'a' is 1 x float32 in .*rows.tfrecord but 3 x float32 in .*other": ([path, other], ["a"], "row", 4),
        "response 'vector' of .*rows.tfrecord has 3 numbers; wanted a single one": (path, ["a"], "vector", 4),
        "features is 'a'; wanted a list": (path, "a", "row", 4),
    }.items():
        with pytest.raises(ValueError, match=wanted):
            from_tfrecord(*arguments)
    with pytest.raises(ValueError, match="batch_size is 64; .*rows.tfrecord has 10 rows"):
        from_tfrecord(path, ["a"], "row", 64, rows=10, drop_remainder=True)


def whole_records(content):
    """Where the records of an uncompressed file end."""
    ends = [0]
    while ends[-1] < len(content):
        ends.append(ends[-1] + 16 + struct.unpack_from("<Q", content, ends[-1])[0])
    return ends[1:]


@pytest.mark.parametrize("count", [None, 20])
@pytest.mark.parametrize("name", ["rows.tfrecord", "rows.tfrecord.gz"])
def test_a_file_that_ends_within_a_record_is_refused(write, name, count):
    """TensorFlow takes a record whose header is cut for the end of the file: it would read 3 of 5 rows."""
    path = write(rows(5), name)
    content = path.read_bytes()
    content = gzip.decompress(content) if name.endswith(".gz") else content
    ends = whole_records(content)
    assert len(ends) == 5
    for place in (*range(ends[2], ends[2] + 14), *range(ends[3] - 5, ends[3] + 13), ends[4] - 1):
        part = content[:place]
        path.write_bytes(gzip.compress(part, 1) if name.endswith(".gz") else part)
        if place in ends:
            assert len(from_tfrecord(path, ["a"], "row", 1)) == ends.index(place) + 1
        else:
            wanted = f"{name} is not a readable .* ends within record {3 + (place > ends[3])}"
            with pytest.raises(ValueError, match=wanted):
                from_tfrecord(path, ["a"], "row", 1, rows=count)


def test_a_cut_gzip_file_is_refused(write):
    path = write(rows(500), "rows.tfrecord.gz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="rows.tfrecord.gz is not a readable TFRecord file"):
        from_tfrecord(path, ["a"], "row", 1, rows=500)


@pytest.mark.parametrize("length", [2**62, 2**63, 2**64 - 1, 10**6])
def test_a_length_that_is_damaged_is_refused(write, length):
    path = write(rows(5))
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q", content, whole_records(content)[0], length)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="ends within record 1"):
        from_tfrecord(path, ["a"], "row", 1, rows=5)


@pytest.mark.parametrize("name, value", [("a", np.nan), ("vector", np.inf), ("row", np.nan)])
def test_values_that_are_not_finite_are_told_with_file_feature_and_row(write, name, value):
    columns = rows()
    columns[name][402, ...] = value
    data = from_tfrecord(write(columns), ["a", "vector"], "row", 64, shuffle_rows=1600)  # blocks of 100 rows
    wanted = f"feature {name} of .*rows.tfrecord holds NaN or infinity in row 402; wanted finite numbers"
    with pytest.raises(tf.errors.InvalidArgumentError, match=wanted):
        list(data)


def test_a_record_without_a_feature_is_an_error(write):
    columns = rows()
    path = write(columns)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for names in ("a", "row"), ("row",):
            example = tf.train.Example()
            for name in names:
                example.features.feature[name].float_list.value.append(1.0)
            writer.write(example.SerializeToString())
    with pytest.raises(tf.errors.InvalidArgumentError, match="Feature: a .* is required"):
        list(from_tfrecord(path, ["a"], "row", 64))


@pytest.mark.nightly
def test_training_on_a_stream_is_training_on_its_arrays(write):
    columns = rows()
    stream = from_tfrecord(write(columns), ["a", "whole"], "label", 48, shuffle_rows=0)
    x, y = x_of(columns, ["a", "whole"]), columns["label"]
    losses = []
    for data, options in (((x, y), dict(batch_size=48)), ((stream,), {})):
        model = tiny_model(compile=False)
        model.adapt(x[:48])
        model.compile(keras.optimizers.Adam(1e-2), jit_compile=True, steps_per_execution=16)
        losses.append(model.fit(*data, epochs=2, shuffle=False, verbose=0, **options).history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_shards_have_every_row_once(write):
    paths = [write(rows(100 + index, first=1000 * index), f"{index}.tfrecord") for index in range(3)]
    whole = rows_of(from_tfrecord(paths, ["a"], "row", 64, shuffle_rows=0))[1]
    parts = [rows_of(from_tfrecord(paths, ["a"], "row", 64, shuffle_rows=0, shard=(i, 2)))[1] for i in range(2)]
    assert [len(part) for part in parts] == [202, 101]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(whole))
    with pytest.raises(ValueError, match="only 3 files"):
        from_tfrecord(paths, ["a"], "row", 64, shard=(0, 4))
