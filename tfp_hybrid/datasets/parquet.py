"""`from_parquet`: batches from Parquet files of any size."""

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
    shard: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Streams batches `(x, y)` for `HybridModel.fit` from Parquet files that need not fit into memory.

    Each epoch yields every row once. To shuffle, 16 row groups at a time are read in random order, one block from each
    in turn, and every `shuffle_rows` rows are permuted uniformly at random; each epoch has a new order. The order of
    all rows is therefore uniformly random if `shuffle_rows` is at least their number. Otherwise, rows that are close
    together in a large row group are mixed better if the file is written in row groups of about `shuffle_rows / 16`
    rows.

    Memory does not grow with the files. It holds about six times `shuffle_rows` rows of the selected columns, and up to
    2 MB per column and open row group; if the latter exceeded 512 MB in total, fewer row groups are open at a time. (An
    abandoned iteration keeps its memory until the next one has started.)

    >>> import pandas, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     pandas.DataFrame({"age": [31, 45, 28], "miles": [5.0, 1.5, 2.5], "delay": [3.0, 0.0, 9.0]}).to_parquet(
    ...         f"{folder}/trips.parquet"
    ...     )
    ...     data = from_parquet(f"{folder}/trips.parquet", ["age", "miles"], "delay", batch_size=2, shuffle_rows=0)
    ...     [x.numpy().tolist() for x, y in data]
    [[[31.0, 5.0], [45.0, 1.5]], [[28.0, 2.5]]]

    Args:
      paths: One file, or several files with the same columns.
      features: Names of the columns of x, in this order. They hold numbers or booleans.
      response: Name of the column of y. It holds numbers or booleans.
      batch_size: Batch size.
      filters: Conditions on the rows to keep, as in `pandas.read_parquet`: `[("year", "<=", 2016), ("age", ">=", 0)]`
        keeps the rows that satisfy both; of a list of such lists, at least one must be satisfied. A comparison with a
        missing value is false. The rows are counted in advance, in one pass over the columns of the conditions.
      shuffle_rows: Number of rows to shuffle at a time; 0 keeps the order of the files, for example for evaluation.
      seed: Random seed of the order. None follows `keras.utils.set_random_seed`.
      drop_remainder: Whether to drop the last batch of an epoch if it is smaller. XLA (`jit_compile=True`) compiles the
        training step again for a batch of another size.
      shard: `(index, count)`, to read only the row groups `index`, `index + count`, ...; None reads all of them.

    Returns:
      A `tf.data.Dataset` of known cardinality. x is float32, `(batch_size, len(features))`; whole numbers beyond
      2**24 are rounded. y is `(batch_size,)`, int64 for a column of integers or booleans, else float32.

    Raises:
      FileNotFoundError: If a file is missing.
      ValueError: If a file is damaged or lacks a column, a column is not numeric or has missing values according to
        the file's statistics, the response is integer in some files only, no row is left, or there are fewer row groups
        than shards.
      tf.errors.InvalidArgumentError: While reading, if a value is missing, NaN or infinite. The message names its
        file, column and row.
    """
    paths, features = streaming.check_arguments(paths, features, response, batch_size, shuffle_rows)
    table = ParquetTable.open(paths, tuple(features), response, filters)
    together = table.row_groups_at_a_time(streaming.SOURCES)
    size = streaming.block_rows(shuffle_rows, len(features) + 1, together)
    groups = streaming.shard_of(table.row_groups(size), shard, "row groups")
    rows = sum(group.rows for group in groups)
    origin = f"{paths[0]}{' and the other files' if len(paths) > 1 else ''}{' after filters' if filters else ''}"
    streaming.check_rows(rows, batch_size, drop_remainder, origin)

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
    weakref.finalize(dataset, readers.close)  # TensorFlow never releases a Python function
    return dataset
