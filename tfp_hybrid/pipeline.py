"""Input pipelines for arrays."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off TensorFlow's autotuning of a data set.

    With autotuning, the end of an iteration may wait for the next tuning step, and the intervals between these steps
    double up to one minute. (In TensorFlow 2.21, the tuning thread is woken before the flag that stops it is set.)
    Without autotuning, each stage has the parallelism that it specifies, or else the number of cores.

    Args:
      dataset: A data set.

    Returns:
      The data set with its other options unchanged.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def batches(
    arrays: tuple,
    batch_size: int | None = None,
    shuffle: bool = False,
    order_seed: Callable | None = None,
    quota: tuple[np.ndarray, int] | None = None,
) -> tf.data.Dataset:
    """Splits arrays into batches for Keras' `fit`, `evaluate` and `predict`.

    Args:
      arrays: A tuple of arrays with equal numbers of rows; entries after the first may be None and stay None. An entry
        that is not in memory has a method `gather(indices)`, which returns a tensor of these rows.
      batch_size: The number of rows in a batch; 32 if None, as in Keras.
      shuffle: Whether to shuffle all rows, in a new order at each iteration. The orders follow
        `keras.utils.set_random_seed`.
      order_seed: A function that returns the seed of the next order, `(2,)`; None draws it.
      quota: Which rows are few, `(n,)` of booleans, and how many of them each batch has. An iteration then goes once
        through the other rows, and over and over through the few.

    Returns:
      A data set of known cardinality, of tuples of tensors.
    """
    rows, batch_size = len(arrays[0]), batch_size or 32
    columns = [one if one is None or hasattr(one, "gather") else tf.convert_to_tensor(one) for one in arrays]
    if order_seed is None:
        seeds = tf.data.Dataset.random(rerandomize_each_iteration=True).batch(2).take(1)
    else:
        given = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(order_seed, [], tf.int64))
        seeds = given.map(lambda seed: tf.ensure_shape(seed, (2,)))

    def shuffled(indices, seed):
        return tf.random.experimental.stateless_shuffle(indices, seed) if shuffle else indices

    def order(seed):
        return shuffled(tf.range(rows), seed)

    if quota is not None:
        few, others = (tf.constant(np.flatnonzero(chosen), tf.int32) for chosen in (quota[0], ~quota[0]))
        room = batch_size - quota[1]
        count = -(-len(others) // room)
        times = -(-count * quota[1] // len(few))
        rows = len(others) + count * quota[1]

        def order(seed):
            ours, theirs = tf.unstack(tf.random.split(seed))
            shape = (times, len(few))
            places = (
                tf.argsort(tf.random.stateless_uniform(shape, ours))
                if shuffle
                else tf.broadcast_to(tf.range(len(few)), shape)
            )
            again = tf.reshape(tf.gather(few, places), [-1])[: count * quota[1]]
            padded = tf.pad(shuffled(others, theirs), [[0, count * room - len(others)]], constant_values=-1)
            both = tf.concat([tf.reshape(again, (count, quota[1])), tf.reshape(padded, (count, room))], 1)
            return tf.boolean_mask(both, both >= 0)

    def gather(indices):
        return tuple(column if column is None else _rows(column, indices) for column in columns)

    dataset = seeds.map(order).rebatch(batch_size).map(gather)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-rows // batch_size)))
    return untuned(dataset.prefetch(2))


def _rows(column, indices):
    return column.gather(indices) if hasattr(column, "gather") else tf.gather(column, indices)
