"""Data sets and generators of batches: their first batch, and one check of each batch."""

import itertools
import types
from collections.abc import Iterator

import keras
import tensorflow as tf

from tfp_hybrid import _compat, workers

Batches = tf.data.Dataset | tf.distribute.DistributedDataset | keras.utils.PyDataset | Iterator
"""A data set or a generator of batches."""

_DATA_SETS = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset, types.GeneratorType)


def is_array(x) -> bool:
    """Returns whether x holds all rows at once; False for data sets and generators, which yield batches."""
    return not isinstance(x, _DATA_SETS)


def first_batch(data: Batches) -> tuple[tuple, Batches]:
    """Reads the first batch of a data set or generator.

    Args:
      data: A data set or a generator of batches.

    Returns:
      The batch as `(x, y, sample_weight)`; and the data including that batch, to be used in place of `data`: reading a
      generator consumes its first item.

    Raises:
      ValueError: If there is no batch, or if its elements are not dense tensors.
    """
    if isinstance(data, tf.data.Dataset):
        _check_elements(data)
        batch = next(iter(data.take(1)), None)
    elif isinstance(data, tf.distribute.DistributedDataset):
        batch = next(iter(data), None)
        batch = None if batch is None else tf.nest.map_structure(_rows_of_replicas, batch)
    elif isinstance(data, keras.utils.PyDataset):
        batch = data[0] if data.num_batches != 0 else None
    else:
        batch = next(data, None)
        data = (item for item in itertools.chain([batch], data))
    if batch is None:
        raise ValueError("x is an empty data set; wanted at least one batch.")
    return keras.utils.unpack_x_y_sample_weight(batch), data


def of_equal_length(data, strategy):
    """Returns the data, of the length that the longest data of all workers have.

    Keras would end the epoch of a worker that has fewer batches, and the others would wait for it. TensorFlow gives it
    batches without rows instead.
    """
    if not workers.is_multi_worker(strategy) or not hasattr(data, "cardinality"):
        return data
    lengths = workers.of_each(strategy, int(data.cardinality() if callable(data.cardinality) else data.cardinality))
    if len(set(lengths)) == 1:
        return data
    if not isinstance(data, tf.distribute.DistributedDataset):
        data = strategy.experimental_distribute_dataset(data)
    return _compat.of_length(data, max(lengths) if min(lengths) >= 0 else min(lengths))


def _rows_of_replicas(values):
    """The rows that the replicas of this worker have of a batch."""
    parts = values.values if isinstance(values, tf.distribute.DistributedValues) else (values,)
    return tf.concat(parts, 0)


def _check_elements(data):
    for part in tf.nest.flatten(data.element_spec):
        if not isinstance(part, tf.TensorSpec):
            raise ValueError(f"x is a data set of {type(part).__name__}; wanted batches of dense tensors.")


class CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` that applies `convert(number, batch)` to each batch of another one."""

    def __init__(self, data, convert):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self._data, self._convert = data, convert

    def __len__(self):
        return len(self._data)

    @property
    def num_batches(self):
        """The number of batches, as the wrapped data set says."""
        return self._data.num_batches

    def __getitem__(self, index):
        return self._convert(index, self._data[index])

    def on_epoch_begin(self):
        self._data.on_epoch_begin()

    def on_epoch_end(self):
        self._data.on_epoch_end()
