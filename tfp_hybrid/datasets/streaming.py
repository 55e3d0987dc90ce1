"""Shuffled batches from blocks of rows, in memory that does not grow with the data."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence

import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.datasets.manual import PathLike
from tfp_hybrid.pipeline import untuned

SOURCES = 16
"""Number of sources to read at a time when shuffling, if memory allows."""

_BLOCK_ROWS, _BLOCK_VALUES = 2**14, 2**22
"""Rows per block when not shuffling; and the maximum number of values in a block, which limits the rows."""


def block_rows(shuffle_rows: int, columns: int, together: int = SOURCES) -> int:
    """Returns how many rows to read at a time, so that a pool has a block of each source that is read in parallel."""
    wanted = shuffle_rows // together if shuffle_rows else _BLOCK_ROWS
    return max(1, min(wanted, _BLOCK_VALUES // columns))


def batches(
    read: Callable[[tf.Tensor], tf.data.Dataset],
    sources: int,
    batch_size: int,
    shuffle_rows: int,
    seed: int | None,
    drop_remainder: bool,
    rows: int,
    together: int = SOURCES,
) -> tf.data.Dataset:
    """Reads sources block by block, shuffles their rows, and batches them.

    With `shuffle_rows`, the sources are read in random order, `together` at a time, one block from each in turn. Every
    `shuffle_rows` rows form a pool, which is permuted uniformly at random. While one pool is batched, the next is read.

    Args:
      read: A function from the number of a source, an int64 scalar, to a dataset of its blocks `(x, y)`.
      sources: Number of sources.
      batch_size: Batch size.
      shuffle_rows: Number of rows in a pool; 0 keeps the order.
      seed: Random seed of the order. None follows the global seed.
      drop_remainder: Whether to drop the last batch if it is smaller.
      rows: Total number of rows.
      together: Number of sources to read at a time when shuffling.

    Returns:
      A dataset of batches `(x, y)`. Each iteration yields every row once, in a new order when shuffling.
    """
    blocks = tf.data.Dataset.range(sources)
    if shuffle_rows:
        blocks = blocks.shuffle(sources, seed=seed, reshuffle_each_iteration=True)
    blocks = blocks.interleave(read, cycle_length=together if shuffle_rows else 1, block_length=1)
    if shuffle_rows:
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2)
        blocks = tf.data.Dataset.zip(blocks.rebatch(shuffle_rows), seeds).map(_permute)
    dataset = blocks.prefetch(1).rebatch(batch_size, drop_remainder=drop_remainder)
    options = tf.data.Options()
    options.experimental_optimization.map_parallelization = False  # else there are as many pools as cores
    dataset = dataset.with_options(options)
    steps = rows // batch_size if drop_remainder else -(-rows // batch_size)
    return untuned(dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2))


def check_arguments(
    paths: PathLike | Sequence[PathLike],
    features: Sequence[str],
    response: str,
    batch_size: int,
    shuffle_rows: int,
) -> tuple[list[str], list[str]]:
    """Returns the paths and the features as lists; raises ValueError for invalid arguments."""
    paths = [str(path) for path in ([paths] if isinstance(paths, PathLike) else paths)]
    if not paths:
        raise ValueError("paths is empty; wanted at least one file.")
    features = features if isinstance(features, str) else list(features)
    if isinstance(features, str) or not features:
        raise ValueError(f"features is {features!r}; wanted a list of at least one name.")
    for argument, names in (("paths", paths), ("features", features)):
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{argument} has {twice[0]!r} twice; wanted each only once.")
    if response in features:
        raise ValueError(f"response is {response!r}, which is also one of the features; wanted another column.")
    arguments.check_count(batch_size, "batch_size")
    arguments.check_count(shuffle_rows, "shuffle_rows", least=0)
    return paths, features


def check_rows(rows: int, batch_size: int, drop_remainder: bool, source: str):
    """Raises ValueError if there is not a single batch.

    Args:
      rows: Total number of rows.
      batch_size: Batch size.
      drop_remainder: Whether a smaller last batch is dropped.
      source: Description of the files, for the message.
    """
    if not rows:
        raise ValueError(f"{source} has no rows; wanted at least one.")
    if drop_remainder and rows < batch_size:
        raise ValueError(
            f"batch_size is {batch_size}; {source} has {rows} rows, so drop_remainder leaves no batch. Use a smaller "
            "batch size, or drop_remainder=False."
        )


def _permute(block, seed):
    x, y = block
    order = tf.random.experimental.stateless_shuffle(tf.range(tf.shape(y)[0]), seed=seed)
    return tf.gather(x, order), tf.gather(y, order)


def shard_of(sources: Sequence, shard: tuple[int, int] | None, name: str) -> list:
    """Returns every `count`-th of the sources, beginning at `index`, for a shard `(index, count)`; all for None.

    Args:
      sources: What is divided.
      shard: The shard.
      name: What the sources are, in error messages.

    Raises:
      ValueError: If the shard is no such pair, or there are fewer sources than shards.
    """
    if shard is None:
        return list(sources)
    good = isinstance(shard, (tuple, list)) and len(shard) == 2 and all(isinstance(n, numbers.Integral) for n in shard)
    if not good or not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard is {shard!r}; wanted (index, count) with 0 <= index < count, or None.")
    if len(sources) < shard[1]:
        raise ValueError(
            f"shard is {shard!r}, but there are only {len(sources)} {name}; wanted at most as many shards."
        )
    return list(sources)[shard[0] :: shard[1]]
