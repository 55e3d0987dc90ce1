"""`from_tfrecord`: batches from TFRecord files of any size."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfp_hybrid.datasets import streaming
from tfp_hybrid.datasets.manual import PathLike


def from_tfrecord(
    paths: PathLike | Sequence[PathLike],
    features: Sequence[str],
    response: str,
    batch_size: int,
    *,
    rows: int | None = None,
    shuffle_rows: int = 2**18,
    seed: int | None = None,
    drop_remainder: bool = False,
    shard: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Streams batches `(x, y)` for `HybridModel.fit` from TFRecord files that need not fit into memory.

    Each record is a `tf.train.Example` whose features are numbers or vectors of fixed length, as determined by the
    first record of each file. Files whose names end in `.gz` are decompressed with gzip.

    Each epoch yields every row once. To shuffle, 16 files at a time are read in random order, one block from each in
    turn, and every `shuffle_rows` rows are permuted uniformly at random; each epoch has a new order. Rows that are
    close together in a large file are mixed better if the data are split into many files.

    Memory holds about six times `shuffle_rows` rows, regardless of the size of the files.

        data = from_tfrecord(glob.glob("flights-*.tfrecord"), ["Month", "Distance"], "ArrDelay", batch_size=4096)
        model.fit(data, epochs=3)

    Args:
      paths: One file, or several files with the same features.
      features: Names of the features that are concatenated to x, in this order.
      response: Name of the feature of y, which is a single number.
      batch_size: Batch size.
      rows: Total number of rows, if you know it; TFRecord files do not store it. None counts them in a pass over the
        files.
      shuffle_rows: Number of rows to shuffle at a time; 0 keeps the order of the files, for example for evaluation.
      seed: Random seed of the order. None follows `keras.utils.set_random_seed`.
      drop_remainder: Whether to drop the last batch of an epoch if it is smaller. XLA (`jit_compile=True`) compiles the
        training step again for a batch of another size.
      shard: `(index, count)`, to read only the files `index`, `index + count`, ... (of which `rows` is then the number
        of rows); None reads all of them.

    Returns:
      A `tf.data.Dataset` of known cardinality. x is float32, `(batch_size, d)`, where d is the total length of the
      features; whole numbers beyond 2**24 are rounded. y is `(batch_size,)`, int64 for a feature of integers, else
      float32.

    Raises:
      FileNotFoundError: If a file is missing.
      ValueError: If a file is damaged or empty, ends within a record or lacks a feature, a feature is not numeric, or
        the first records of two files differ in type or length. (A file that was truncated between two records cannot
        be detected.)
      tf.errors.InvalidArgumentError: While reading, if a value is missing, NaN or infinite. For NaN and infinity, the
        message names the file, feature and row.
    """
    paths, features = streaming.check_arguments(paths, features, response, batch_size, shuffle_rows)
    paths = streaming.shard_of(paths, shard, "files")
    spec = _spec(paths, features, response)
    if rows is not None and rows < 1:
        raise ValueError(f"rows is {rows}; wanted the number of rows of all files, or None to count them.")
    for path in paths:
        _check_framing(path)
    if rows is None:
        rows = sum(_count(path) for path in paths)
    streaming.check_rows(rows, batch_size, drop_remainder, f"{paths[0]}{' ...' if len(paths) > 1 else ''}")
    size = streaming.block_rows(shuffle_rows, sum(spec[name].shape[0] for name in features) + 1)

    def parse(path, number, records):
        columns = tf.io.parse_example(records, spec)
        columns = {name: tf.cast(column, _dtype(name)) for name, column in columns.items()}
        checks = [_check_finite(column, path, name, number * size) for name, column in columns.items()]
        with tf.control_dependencies(checks):
            x = tf.concat([columns[name] for name in features], axis=1)
            return x, tf.squeeze(columns[response], 1)

    def _dtype(name):
        return spec[name].dtype if name == response else tf.float32

    def read(index):
        path = tf.gather(paths, index)
        return _records(path).batch(size).enumerate().map(lambda number, block: parse(path, number, block))

    return streaming.batches(read, len(paths), batch_size, shuffle_rows, seed, drop_remainder, rows)


def _spec(paths, features, response) -> dict[str, tf.io.FixedLenFeature]:
    """Returns the features for `tf.io.parse_example`, from the first record of each file."""
    specs = {}
    for path in paths:
        values = _first_record(path)
        specs[path] = {name: _feature(path, values, name) for name in (*features, response)}
        for name, feature in specs[path].items():
            first = specs[paths[0]][name]
            if feature != first:
                raise ValueError(
                    f"The feature {name!r} is {first.shape[0]} x {first.dtype.name} in {paths[0]} but "
                    f"{feature.shape[0]} x {feature.dtype.name} in {path}; wanted the same in all files."
                )
    length = specs[paths[0]][response].shape[0]
    if length != 1:
        raise ValueError(f"The response {response!r} of {paths[0]} has {length} numbers; wanted a single one.")
    return specs[paths[0]]


def _first_record(path):
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"{path} does not exist.")
    with _named_errors(path):
        record = next(_records(path).take(1).as_numpy_iterator(), None)
        if record is None:
            raise ValueError("it has no rows")
        return tf.train.Example.FromString(record).features.feature


def _check_framing(path):
    """Raises ValueError if a file ends within a record.

    TensorFlow takes a truncated header for the end of the file. A record consists of the length of its data (8 bytes,
    little-endian), a checksum of the length (4), the data, and a checksum of the data (4). The data are skipped.
    """
    end, record, most = 0, 0, 1032 * tf.io.gfile.stat(path).length  # the largest compression ratio of gzip
    with _named_errors(path), _open(path) as file:
        while header := file.read(12):
            end += 16 + int.from_bytes(header[:8], "little")
            whole = len(header) == 12 and end <= most
            if whole:
                file.seek(end - 1)
            if not whole or not file.read(1):
                raise ValueError(f"it ends within record {record}")
            record += 1


def _open(path):
    file = open(path, "rb") if os.path.exists(path) else tf.io.gfile.GFile(path, "rb")  # such as gs://
    return gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file


def _count(path) -> int:
    with _named_errors(path):
        blocks = _records(path).batch(2**14)
        return int(blocks.reduce(np.int64(0), lambda count, block: count + tf.size(block, tf.int64)))


def _records(path) -> tf.data.Dataset:
    compression = tf.where(tf.strings.regex_full_match(path, r".*\.gz"), "GZIP", "")
    return tf.data.TFRecordDataset(path, compression)


@contextlib.contextmanager
def _named_errors(path):
    try:
        yield
    except (ValueError, EOFError, OSError, zlib.error, tf.errors.OpError, DecodeError) as error:
        raise ValueError(f"{path} is not a readable TFRecord file of tf.train.Example: {error}") from None


def _feature(path, values, name) -> tf.io.FixedLenFeature:
    if name not in values:
        raise ValueError(f"{path} has no feature {name!r}; it has {', '.join(sorted(values))}.")
    kind = values[name].WhichOneof("kind")
    if kind not in ("float_list", "int64_list") or not getattr(values[name], kind).value:
        raise ValueError(f"The feature {name!r} of {path} is a {kind or 'missing value'}; wanted numbers.")
    dtype = tf.float32 if kind == "float_list" else tf.int64
    return tf.io.FixedLenFeature((len(getattr(values[name], kind).value),), dtype)


def _check_finite(column, path, name, first_row):
    if column.dtype.is_integer:
        return tf.no_op()
    bad = tf.where(tf.reduce_any(~tf.math.is_finite(column), axis=1))
    row = tf.strings.as_string(first_row + tf.reduce_min(bad))
    message = [f"The feature {name} of ", path, " holds NaN or infinity in row ", row, "; wanted finite numbers."]
    return tf.debugging.Assert(tf.shape(bad)[0] == 0, [tf.strings.join(message)])
