"""Input pipelines that end as soon as their data do."""

import tensorflow as tf


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """`dataset`, without TensorFlow tuning it while it runs.

    With tuning, the end of an iteration may wait for the next tuning, and these come at intervals that double, up to a
    minute: 2.5 s after an epoch of 7.8 s, for one. (TensorFlow 2.21: the tuning thread is woken before the flag is set
    that tells it to stop.) The parallelism of the stages is then what they say, or the number of cores.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def batches(arrays, batch_size: int | None = None, shuffle: bool = False) -> tf.data.Dataset:
    """Batches of the rows of arrays for Keras' `fit`, `evaluate` and `predict`, of known cardinality.

    Args:
      arrays: a tuple of arrays with equally many rows; None stays None.
      batch_size: rows of a batch; 32, as in Keras, if None.
      shuffle: all rows in a random order, another one at each iteration. `keras.utils.set_random_seed` sets it.

    Returns:
      Tuples of tensors.
    """
    rows, batch_size = len(arrays[0]), batch_size or 32
    tensors = [None if array is None else tf.convert_to_tensor(array) for array in arrays]
    seeds = tf.data.Dataset.random(rerandomize_each_iteration=True).batch(2).take(1)

    def order(seed):
        places = tf.range(rows)
        return tf.random.experimental.stateless_shuffle(places, seed) if shuffle else places

    def gather(places):
        return tuple(None if tensor is None else tf.gather(tensor, places) for tensor in tensors)

    dataset = seeds.map(order).rebatch(batch_size).map(gather)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(-(-rows // batch_size)))
    return untuned(dataset.prefetch(2))
