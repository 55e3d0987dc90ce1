"""`Source`: the rows or the data set that `fit` and `evaluate` read, checked, and the features of a frozen encoder."""

import dataclasses
import os
import pathlib

import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.callbacks.place import Place
from tfp_hybrid.models import data_sets, feeding, labels, side_inputs
from tfp_hybrid.models.feature_cache import FeatureCache


@dataclasses.dataclass(frozen=True)
class Source:
    """Rows in memory, or a data set whose batches are checked as they are read.

    Attributes:
      feed: What checks the data.
      rows: The checked `(x, y, sample_weight)`: all of an array, or those of the first batch of a data set.
      stream: The data set or generator; None for arrays.
      batch_size: The number of rows in a batch of an array.
      shuffle: Whether the rows of an array are shuffled.
      labelled_per_batch: How many rows of each batch of an array have a label; None leaves it to chance.
    """

    feed: feeding.Feed
    rows: tuple
    stream: data_sets.Batches | None = None
    batch_size: int | None = None
    shuffle: bool = False
    labelled_per_batch: int | None = None

    def batches(self, place: Place | None = None) -> data_sets.Batches:
        """Returns checked batches; of an array that is shuffled, in the order of a place, if one is given."""
        if self.stream is None:
            order_seed = None if place is None else place.order_seed
            few = None if self.labelled_per_batch is None else (labels.are_known(self.rows[1]), self.labelled_per_batch)
            return feeding.in_batches(self.rows, self.batch_size, self.shuffle, order_seed, few)
        return self.feed.stream(self.stream)

    def check_labels(self, argument: str = "y"):
        """Raises ValueError if it is known that no row has a label, or that the head cannot take its scale from y."""
        model = self.feed.model
        if self.stream is None:
            labels.check_some_known(self.rows[1], model, argument)
        elif self.feed.training:
            labels.check_can_adapt(self.rows[1], model)

    def with_quota(self, count: int | None) -> "Source":
        """Returns batches of which each has that many rows with a label.

        Raises:
          ValueError: If batches cannot have so many.
        """
        if count is None:
            return self
        model, name = self.feed.model, f"labelled_per_batch is {count!r}"
        if model.head is None:
            raise ValueError(f"{name}, but a {type(model).__name__} takes no labels; wanted None.")
        if model.missing_label is None:
            raise ValueError(f"{name}, but the model has no `missing_label`, so all rows have a label; wanted None.")
        if self.stream is not None:
            raise ValueError(f"{name}, but x is a data set, whose batches are as they are; wanted arrays, or None.")
        arguments.check_count(count, "labelled_per_batch")
        if count >= (self.batch_size or 32):
            raise ValueError(f"{name}, and batch_size {self.batch_size or 32}; wanted fewer, for rows without a label.")
        if labels.are_known(self.rows[1]).all():
            raise ValueError(f"{name}, but all rows have a label; wanted None.")
        return dataclasses.replace(self, labelled_per_batch=count)

    def settings(self) -> dict:
        """Returns what decides which rows are in which batch, as far as it is known."""
        count = side_inputs.count(self.rows[0])
        if self.stream is None:
            settings = {"rows": count, "batch_size": self.batch_size or 32, "shuffle": bool(self.shuffle)}
            return settings | {"labelled_per_batch": self.labelled_per_batch}
        is_data_set = isinstance(self.stream, tf.data.Dataset)
        return {"rows of the first batch": count} | ({"batches": int(self.stream.cardinality())} if is_data_set else {})

    def is_finite(self, steps: int | None) -> bool:
        """Returns whether all rows can be read; `steps` is how many batches an epoch has, if that was given."""
        if self.stream is None:
            return True
        is_data_set = isinstance(self.stream, tf.data.Dataset)
        return is_data_set and steps is None and int(self.stream.cardinality()) != tf.data.INFINITE_CARDINALITY

    def encoded(self, cache: FeatureCache) -> "Source":
        """Returns rows that have features in place of x; those of a data set in batches as large as its first."""
        if self.stream is None:
            return dataclasses.replace(self, rows=cache.rows(self.rows))
        rows = cache.batches(self.feed.iterate(self.stream))
        return dataclasses.replace(self, rows=rows, stream=None, batch_size=side_inputs.count(self.rows[0]))


def source(feed: feeding.Feed, x, y=None, sample_weight=None, batch_size=None, shuffle: bool = False) -> Source:
    """Checks the arrays, or the first batch of a data set or generator x.

    Args:
      feed: What checks the data.
      x: The inputs `(n, *input_shape)`; or a data set or generator, whose later batches are checked as they are read.
      y: The labels of an array x, or None.
      sample_weight: The sample weights of an array x, `(n,)`, or None.
      batch_size: The number of rows in a batch of an array x; 32 if None.
      shuffle: Whether the rows of an array are shuffled.

    Raises:
      ValueError: If the model cannot use the arrays or the first batch.
    """
    if data_sets.is_array(x):
        return Source(feed, feed.rows(x, y, sample_weight), None, batch_size, shuffle)
    feeding.check_alone(y, sample_weight)
    batch, x = data_sets.first_batch(x)
    return Source(feed, feed.rows_of_batch(batch), x, shuffle=shuffle)


def encoded(
    model, cache: os.PathLike | str | None, train: Source, held_out: Source | None, steps: tuple, verbose
) -> tuple[Source, Source | None]:
    """Computes the features of a frozen encoder once, for all epochs, where that is possible and wanted.

    Args:
      model: A `DensityModel`.
      cache: "memory", a folder, or None, as for `fit`.
      train: The training data.
      held_out: The validation data, or None.
      steps: How many batches an epoch of each has, if that was given.
      verbose: As for `fit`.

    Returns:
      `train` and `held_out`, with features in place of x where they are cached.

    Raises:
      ValueError: If a folder is given, but there is nothing to cache or no end to it.
    """
    if cache is not None and not isinstance(cache, (str, os.PathLike)):
        raise ValueError(f"cache is {cache!r}; wanted 'memory', a folder, or None.")
    in_folder = cache is not None and cache != "memory"
    if not model.has_frozen_encoder:
        if in_folder:
            raise ValueError(f"cache is {cache!r}, but the model has no frozen encoder, whose features it could hold.")
        return train, held_out
    if cache is None:
        for one in (train, held_out):
            if one is not None:
                model.features_in_batches(side_inputs.take(one.rows[0], slice(one.batch_size or 32)))  # checks them
        return train, held_out
    folder, found = pathlib.Path(cache) if in_folder else None, []
    for one, suffix, count in zip((train, held_out), ("", "_val"), steps, strict=True):
        if one is not None and one.is_finite(count):
            one = one.encoded(FeatureCache(model, folder, suffix, verbose in ("auto", 1)))
        elif one is not None and in_folder:
            raise ValueError(
                f"cache is {cache!r}, but x{suffix} is a generator or may have no end; wanted an array, or a finite "
                "`tf.data.Dataset` without a number of steps. (cache=None encodes every batch anew.)"
            )
        found.append(one)
    return tuple(found)
