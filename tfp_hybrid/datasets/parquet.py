"""Batches from Parquet files of any size."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfp_hybrid.datasets import streaming
from tfp_hybrid.datasets.manual import PathLike
from tfp_hybrid.datasets.parquet_table import ParquetTable
from tfp_hybrid.datasets.readers import Readers


def from_parquet(
    paths: PathLike | Sequence[PathLike],
    features: Sequence[str],
    response: str,
    batch_size: int,
    *,
    filters: list | None = None,
    shuffle_rows: int = 2**18,
    seed: int | None = None,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Streams batches `(x, y)` for `HybridModel.fit` from Parquet files that need not fit into memory.

    Each row comes once an epoch. To shuffle, the row groups of all files are visited in random order, 16 at a time, a
    block of each in turn; and each `shuffle_rows` rows that have come in leave in a uniformly random order, another
    one at each epoch. So the order of all rows is uniformly random if `shuffle_rows` is at least their number; and
    rows that lie together in a large row group are better spread if the file is written in row groups of
    about `shuffle_rows / 16` rows.

    Memory does not grow with the files: it is that of some six times `shuffle_rows` rows of the columns in use, and
    at most 2 MB for each of them in each open row group. Where that would be over 512 MB, fewer are open at a time.
    (An iteration that is given up keeps as much until the next one is under way.)

    >>> import pandas, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pandas.DataFrame({"age": [31, 45, 28], "miles": [5.0, 1.5, 2.5], "delay": [3.0, 0.0, 9.0]}).to_parquet(
    ...         f"{folder}/trips.parquet"
    ...     )
    ...     data = from_parquet(f"{folder}/trips.parquet", ["age", "miles"], "delay", batch_size=2, shuffle_rows=0)
    ...     [x.numpy().tolist() for x, y in data]
    [[[31.0, 5.0], [45.0, 1.5]], [[28.0, 2.5]]]

    Args:
      paths: A file, or several with the same columns.
      features: Names of the columns of x, in this order; numbers or booleans.
      response: Name of the column of y, likewise.
      batch_size: Rows of a batch.
      filters: Keeps the rows for which these conditions hold, as in `pandas.read_parquet`: `[("year", "<=", 2016),
        ("age", ">=", 0)]`, or a list of such lists, one of which has to hold. A comparison with a missing value
        does not hold. The rows that are kept are counted by one pass over the columns of the conditions.
      shuffle_rows: Rows to shuffle at a time; 0 keeps the order of the files, as evaluation may want.
      seed: Of the order of the rows. None follows `keras.utils.set_random_seed`.
      drop_remainder: Leave out the last batch of an epoch if it is smaller. XLA (`jit_compile=True`) compiles
        a training step anew for a batch of another size.

    Returns:
      A `tf.data.Dataset` of known cardinality. x is float32, `(batch_size, len(features))`; whole numbers beyond
      2**24 are rounded. y is `(batch_size,)`: int64 for a column of integers or booleans, else float32.

    Raises:
      FileNotFoundError: A file is missing.
      ValueError: A file is damaged or lacks a column, a column has no numbers or misses some, the response is an
        integer in one file only, or no row is left.
      tf.errors.InvalidArgumentError: While reading: a value is missing, NaN or infinite; names its file, column
        and row. (What the files' statistics tell is a ValueError before any work.)
    """
    paths, features = streaming.check_arguments(paths, features, response, batch_size, shuffle_rows)
    table = ParquetTable.open(paths, tuple(features), response, filters)
    together = table.row_groups_at_a_time(streaming.SOURCES)
    size = streaming.block_rows(shuffle_rows, len(features) + 1, together)
    groups = table.row_groups(size)
    rows = sum(group.rows for group in groups)
    of = f"{paths[0]}{' and the other files' if len(paths) > 1 else ''}{' after filters' if filters else ''}"
    streaming.check_rows(rows, batch_size, drop_remainder, of)

    readers = Readers(lambda source: table.blocks(groups[source], size), most=2 * together)
    end = np.empty((0, len(features)), np.float32), np.empty(0, table.response_dtype)

    def read(source):
        def block(number):
            x, y = tf.numpy_function(
                lambda source, number: readers.block(int(source), int(number)) or end,
                (source, number),
                (tf.float32, table.response_dtype),
            )
            return tf.ensure_shape(x, (None, len(features))), tf.ensure_shape(y, (None,))

        blocks = tf.data.Dataset.range(tf.int64.max).map(block)
        return blocks.take_while(lambda _, y: tf.size(y) > 0)

    dataset = streaming.batches(read, len(groups), batch_size, shuffle_rows, seed, drop_remainder, rows, together)
    weakref.finalize(dataset, readers.close)  # TensorFlow never forgets a Python function
    return dataset
