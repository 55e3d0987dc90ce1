"""Checked batches of the data passed to `fit`, `evaluate` and `predict`."""

import contextlib
import dataclasses
import math
import weakref
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.models import checks, data_sets, labels, side_inputs
from tfp_hybrid.models.data_sets import Batches
from tfp_hybrid.pipeline import batches
from tfp_hybrid.tables import frames


@dataclasses.dataclass
class Feed:
    """Checks the data passed to one model: arrays as a whole before any work, data sets batch by batch.

    Arrays become batches of rows. A data set keeps its batches; each of them is checked in the same way as arrays, and
    a batch that the model cannot use raises a ValueError that gives its number. In both cases, inputs are cast to the
    dtype of the flow, and labels to the shape and dtype of the head's response, so that a step is traced only once.
    Class weights become sample weights.

    Args:
      model: A `DensityModel`. Labels are required if it has a head.
      inputs_only: Whether to ignore labels and weights, as `predict` does.
      training: Whether the model will be trained on the rows.
      class_weight: A dictionary from each class to its weight, or None.
      suffix: The suffix of the names x, y and sample_weight in error messages, such as "_val".
      names: The column names of DataFrames, for a model without `feature_names`. If None, they are taken from the first
        DataFrame.

    Attributes:
      labelled: Whether labels are required.
      class_weight: The weights of the classes as an array `(K,)`, or None.
      refused: The errors of the batches that were refused so far.

    Raises:
      ValueError: If the class weights do not fit the head.
    """

    model: keras.Model
    inputs_only: bool = False
    training: bool = False
    class_weight: dict | None = None
    suffix: str = ""
    names: tuple[str, ...] | None = None
    refused: list = dataclasses.field(default_factory=list, init=False)

    def __post_init__(self):
        self.labelled = self.model.head is not None and not self.inputs_only
        if self.class_weight is not None and not self.labelled:
            raise ValueError(f"class_weight is given, but a {type(self.model).__name__} has no classes to weight.")
        if self.class_weight is not None:
            self.class_weight = checks.class_weights(self.class_weight, self.model.head)

    def rows(self, x, y=None, sample_weight=None) -> tuple:
        """Returns the checked arrays `(x, y, sample_weight)`; absent ones are None."""
        rows = self._checked_rows(x, y, sample_weight)
        if self.training:
            checks.warn_of_codes(side_inputs.main(rows[0]), self.model, self.names)
        return self._class_weighted(*rows)

    def check_response(self):
        """Raises ValueError if the model has no head; to be called when y is given."""
        if self.model.head is None:
            raise ValueError(
                f"y{self.suffix} is given, but a {type(self.model).__name__} models x alone; wanted no labels."
            )

    def rows_of_batch(self, batch: tuple) -> tuple:
        """Returns `rows` of one batch of a data set, whose labels are ignored if they are not required."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        return self.rows(x, y if self.labelled else None, sample_weight)

    def split_rows(self, x, y, sample_weight, fraction: float) -> tuple:
        """Splits arrays into rows for training and rows for validation.

        Args:
          x: The inputs, `(n, *event_shape)`.
          y: The labels, or None.
          sample_weight: The sample weights, `(n,)`, or None.
          fraction: The fraction of the rows, taken from the end, that is held out for validation.

        Returns:
          `(x, y, sample_weight)` for training, and the same for validation, without class weights.

        Raises:
          ValueError: If the model cannot use the rows, or if no row is left for training.
        """
        arguments.check_fraction(fraction, "validation_split")
        columns = self._checked_rows(x, y, sample_weight)
        count = side_inputs.count(columns[0])
        at = math.floor(count * (1 - fraction))
        if at == 0:
            raise ValueError(
                f"validation_split is {fraction}, which leaves none of the {count} rows for training; wanted "
                "a smaller fraction."
            )
        first, last = (
            [None if c is None else side_inputs.take(c, part) for c in columns] for part in (slice(at), slice(at, None))
        )
        return self._class_weighted(*first), tuple(last)

    def _checked_rows(self, x, y, sample_weight):
        x_argument = f"x{self.suffix}"
        if self.names is None and (frame := side_inputs.frame_in(x)) is not None:
            names = frames.column_names(frame, x_argument)
            self.names = tuple(name for name in names if name not in self.model.side_inputs)
        x = checks.inputs(x, self.model, x_argument, self.training, self.names)
        if self.inputs_only:
            return x, None, None
        count = side_inputs.count(x)
        if y is not None:
            self.check_response()
        if self.labelled:
            y = labels.checked(y, self.model, count, f"y{self.suffix}", x_argument)
        if sample_weight is not None:
            sample_weight = checks.sample_weights(sample_weight, count, f"sample_weight{self.suffix}", x_argument)
        return x, y, sample_weight

    def _class_weighted(self, x, y, sample_weight):
        if self.class_weight is None:
            return x, y, sample_weight
        row_weights = labels.class_weights(y, self.class_weight)
        return x, y, row_weights if sample_weight is None else row_weights * sample_weight

    def stream(self, data: Batches) -> Batches:
        """Returns a data set or generator like `data` that checks each batch as it is read.

        TensorFlow cannot put a check into a data set that is distributed over replicas; it is returned as it is.
        """
        data = data_sets.of_equal_length(data, self.model.distribute_strategy)
        if isinstance(data, tf.distribute.DistributedDataset):
            return data
        if isinstance(data, tf.data.Dataset):
            return data.enumerate().map(self._checked_tensors)
        if isinstance(data, keras.utils.PyDataset):
            return data_sets.CheckedPyDataset(data, self._batch)
        return (self._batch(number, batch) for number, batch in enumerate(data))

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Returns a context manager that raises the original ValueError of a refused batch.

        TensorFlow reports an error in an input pipeline as an error of its own.
        """
        try:
            yield
        except (tf.errors.OpError, ValueError) as error:
            for refused in self.refused:  # there are several if TensorFlow read ahead
                if str(refused) in str(error):
                    raise refused from None
            raise

    def iterate(self, data: Iterable) -> Iterator[tuple]:
        """Yields the checked batches of a data set; each is read only when it is requested."""
        number = -1
        for number, batch in enumerate(data):
            yield self._batch(number, batch)
        if number < 0:
            raise ValueError("x is an empty data set; wanted at least one batch.")

    def _batch(self, number, batch):
        """Returns `rows_of_batch`; error messages give the number of the batch."""
        try:
            return _packed(self.rows_of_batch(batch))
        except ValueError as error:
            refused = ValueError(f"Batch {number} of the data set (counting from 0): {error}")
            self.refused.append(refused)
            raise refused from None

    @tf.autograph.experimental.do_not_convert  # AutoGraph would wrap the check, which runs for every batch
    def _checked_tensors(self, number, *batch):
        batch = batch[0] if len(batch) == 1 and isinstance(batch[0], tuple) else batch
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        spec = self.model.inputs_spec
        given = [x, y if self.labelled else None, None if self.inputs_only else sample_weight]
        structure = tf.nest.map_structure(lambda column: column is not None, given)
        labelled, weighted = self.labelled, structure[2] or self.class_weight is not None
        side = {
            name: tf.TensorSpec((None, *one.shape), one.dtype if one.dtype.is_floating else tf.int64)
            for name, one in self.model.side_inputs.items()
        }

        # TensorFlow keeps `check` until the process ends, which must not keep the model. The data set keeps `self`,
        # whose method it maps.
        feed = weakref.ref(self)

        def check(number, *parts):
            parts = iter(parts)
            batch = tf.nest.map_structure(lambda is_present: next(parts) if is_present else None, structure)
            x, *rest = feed()._batch(number, tuple(batch))
            return _without_none([*(x[name] for name in side), *rest]) or np.True_

        head = self.model.head
        dtypes = [one.dtype for one in side.values()]
        dtypes += [tf.int32 if head.integer_labels else head.variable_dtype] if labelled else []
        dtypes += [tf.float32] if weighted else []
        checked = tf.numpy_function(check, [number, *_without_none(tf.nest.flatten(given))], dtypes or tf.bool)
        with tf.control_dependencies(tf.nest.flatten(checked)):
            alone = tf.ensure_shape(side_inputs.main(x), (None, *spec.shape))
        alone = tf.cast(alone, spec.stored_dtype(alone.dtype))
        checked = list(checked) if dtypes else []
        beside = {name: tf.ensure_shape(checked.pop(0), one.shape) for name, one in side.items()}
        x = side_inputs.with_main(x, alone) | beside if side else alone
        y = tf.ensure_shape(checked.pop(0), (None, *head.event_shape)) if labelled else None
        sample_weight = tf.ensure_shape(checked.pop(0), (None,)) if weighted else None
        return _packed((x, y, sample_weight))


def in_batches(rows: tuple, batch_size: int | None, *options) -> tf.data.Dataset:
    """Returns batches of the checked `(x, y, sample_weight)`, or of features in place of x; others may be None."""
    rows = _packed(rows)
    if not side_inputs.is_dict(rows[0]):
        return batches(rows, batch_size, *options)
    data = batches(tuple(tf.nest.flatten(rows)), batch_size, *options)
    return data.map(lambda *columns: tf.nest.pack_sequence_as(rows, columns))


def check_alone(y=None, sample_weight=None, validation_split: float | None = None):
    """Raises ValueError if an argument is given that requires an array x, for an x that is a data set."""
    for argument, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(
                f"{argument} is given, but x is a data set; wanted {argument} in its batches, (x, y, sample_weight)."
            )
    if validation_split:
        raise ValueError(
            f"validation_split is {validation_split}, but x is a data set; wanted arrays, or validation_data in "
            "place of validation_split."
        )


def _without_none(columns):
    return tuple(column for column in columns if column is not None)


def _packed(columns):
    """Returns `(x, y, sample_weight)` without the trailing entries that are None, as Keras packs it."""
    x, y, sample_weight = columns
    return (x,) if y is None and sample_weight is None else (x, y) if sample_weight is None else (x, y, sample_weight)
