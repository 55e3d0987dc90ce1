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

    if quota is None:
        count, order = rows, plain_order(rows, shuffle)
    else:
        count, order = order_with_quota(*quota, batch_size, shuffle)

    def gather(indices):
        return tuple(column if column is None else _rows(column, indices) for column in columns)

    dataset = seeds.map(order).rebatch(batch_size).map(gather)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-count // batch_size)))
    return untuned(dataset.prefetch(2))


def order_with_quota(few: np.ndarray, per_batch: int, batch_size: int, shuffle: bool) -> tuple[int, Callable]:
    """Orders rows so that each batch has some of a few rows first.

    Args:
      few: Which rows are few, `(n,)` of booleans.
      per_batch: How many of them each batch has.
      batch_size: The number of rows in a batch; the last batch may have fewer of the others.
      shuffle: Whether all rows are shuffled.

    Returns:
      The number of rows in the order, and a function of a seed `(2,)` that returns it: once through the other rows, and
      over and over through the few.
    """
    ours, others = (tf.constant(np.flatnonzero(chosen), tf.int32) for chosen in (few, ~few))
    room = batch_size - per_batch
    steps = -(-len(others) // room)
    wanted = steps * per_batch
    times = -(-wanted // len(ours))

    def order(seed):
        of_ours, of_others = tf.unstack(tf.random.split(seed))
        places = tf.random.stateless_uniform((times, len(ours)), of_ours) if shuffle else tf.zeros((times, len(ours)))
        again = tf.gather(ours, tf.reshape(tf.argsort(places, stable=True), [-1])[:wanted])
        rest = tf.gather(others, plain_order(len(others), shuffle)(of_others))
        rest = tf.pad(rest, [[0, steps * room - len(others)]], constant_values=-1)
        both = tf.concat([tf.reshape(again, (steps, per_batch)), tf.reshape(rest, (steps, room))], 1)
        return tf.boolean_mask(both, both >= 0)

    return len(others) + wanted, order


def plain_order(rows: int, shuffle: bool) -> Callable:
    """Returns a function of a seed `(2,)` that returns all rows in their order, or shuffled."""

    def order(seed):
        return tf.random.experimental.stateless_shuffle(tf.range(rows), seed) if shuffle else tf.range(rows)

    return order


def _rows(column, indices):
    return column.gather(indices) if hasattr(column, "gather") else tf.gather(column, indices)
