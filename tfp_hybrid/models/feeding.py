"""What `fit`, `evaluate` and `predict` are given, checked and as batches."""

import contextlib
import dataclasses
import itertools
import math
import types

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.models import checks, frames
from tfp_hybrid.pipeline import batches


def is_array(x) -> bool:
    """Whether x holds all rows at once; False for what Keras takes batch by batch."""
    return not isinstance(x, (tf.data.Dataset, keras.utils.PyDataset, types.GeneratorType))


@dataclasses.dataclass
class Feed:
    """Checks what one model is given, whole arrays before any work and data sets batch by batch.

    Arrays become batches of rows. A data set stays what it is, but each of its batches is checked as arrays are, and
    one that the model cannot take raises a ValueError with its number. In both, inputs get the dtype of the flow and
    labels the shape and dtype of the head's response, so that a step is traced once, however they came; and class
    weights become sample weights.

    Args:
      model: the `DensityModel`; labels are wanted if it has a head.
      inputs_only: whether labels and weights are ignored, as in `predict`.
      training: whether the model is to be trained on the rows.
      class_weight: a weight for each class, or None.
      suffix: after the names x, y and sample_weight in errors, such as "_val".
      names: of the columns of DataFrames, for a model that knows none; those of the first one if None.

    Raises:
      ValueError: for class weights that do not fit the head.
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
            raise ValueError(f"class_weight is given, but a {type(self.model).__name__} has no classes to weigh.")
        if self.class_weight is not None:
            self.class_weight = checks.class_weights(self.class_weight, self.model.head)

    def rows(self, x, y=None, sample_weight=None) -> tuple:
        """Checked arrays `(x, y, sample_weight)`; None for what there is not."""
        return self._class_weighted(*self._checked_rows(x, y, sample_weight))

    def check_response(self):
        """Raises ValueError if y is given to a model without a head."""
        if self.model.head is None:
            raise ValueError(f"y{self.suffix} is given, but a {type(self.model).__name__} is of x alone; wanted no y.")

    def rows_of_batch(self, batch) -> tuple:
        """`rows` of one batch of a data set, in which y may be given and not needed."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        return self.rows(x, y if self.labelled else None, sample_weight)

    def split_rows(self, x, y, sample_weight, fraction: float) -> tuple:
        """`rows` to train on and, the last `fraction` of all, to validate on; the latter without class weights."""
        arguments.check_fraction(fraction, "validation_split")
        columns = self._checked_rows(x, y, sample_weight)
        at = math.floor(len(columns[0]) * (1 - fraction))
        if at == 0:
            raise ValueError(f"validation_split is {fraction}; of {len(columns[0])} rows it leaves none to train on.")
        first, last = ([None if c is None else c[part] for c in columns] for part in (slice(at), slice(at, None)))
        return self._class_weighted(*first), tuple(last)

    def _checked_rows(self, x, y, sample_weight):
        of = f"x{self.suffix}"
        if self.names is None and frames.is_frame(x):
            self.names = frames.column_names(x, of)
        x = checks.inputs(x, self.model, of, self.training, self.names)
        if self.inputs_only:
            return x, None, None
        if y is not None:
            self.check_response()
        y = checks.labels(y, self.model.head, len(x), f"y{self.suffix}", of) if self.labelled else None
        if sample_weight is not None:
            sample_weight = checks.sample_weights(sample_weight, len(x), f"sample_weight{self.suffix}", of)
        return x, y, sample_weight

    def _class_weighted(self, x, y, sample_weight):
        if self.class_weight is None:
            return x, y, sample_weight
        of_class = self.class_weight[y.astype(int)]
        return x, y, of_class if sample_weight is None else of_class * sample_weight

    def data(self, x, y=None, sample_weight=None, batch_size=None):
        """Batches of checked arrays; or a data set or generator, its first batch checked now."""
        if is_array(x):
            return in_batches(self.rows(x, y, sample_weight), batch_size)
        check_alone(y, sample_weight)
        batch, x = first_batch(x)
        self.rows_of_batch(batch)
        return self.stream(x)

    def validation_data(self, given, batch_size):
        """`data` of what `fit` is given as `validation_data`: a tuple of arrays, or a data set."""
        columns = keras.utils.unpack_x_y_sample_weight(tuple(given) if isinstance(given, list) else given)
        return self.data(*columns, batch_size)

    def stream(self, data):
        """`data`, a data set or a generator, each of its batches checked when its turn comes."""
        if isinstance(data, tf.data.Dataset):
            return data.enumerate().map(self._checked_tensors)
        if isinstance(data, keras.utils.PyDataset):
            return _CheckedPyDataset(data, self._batch)
        return (self._batch(number, batch) for number, batch in enumerate(data))

    @contextlib.contextmanager
    def errors(self):
        """Inside, the error that TensorFlow makes of a refused batch is the ValueError that it was."""
        try:
            yield
        except (tf.errors.OpError, ValueError) as error:
            for refused in self.refused:  # several, where TensorFlow has read on
                if str(refused) in str(error):
                    raise refused from None
            raise

    def iterate(self, data):
        """The checked batches of a data set, in Python: none is read before it is asked for."""
        number = -1
        for number, batch in enumerate(data):
            yield self._batch(number, batch)
        if number < 0:
            raise ValueError("x is an empty data set; wanted at least one batch.")

    def _batch(self, number, batch):
        """`rows_of_batch`, with the batch's number in errors."""
        try:
            return _columns(self.rows_of_batch(batch))
        except ValueError as error:
            refused = ValueError(f"Batch {number} of the data set (the first is 0): {error}")
            self.refused.append(refused)
            raise refused from None

    @tf.autograph.experimental.do_not_convert  # it would wrap the check, which is called for every batch
    def _checked_tensors(self, number, *batch):
        batch = batch[0] if len(batch) == 1 and isinstance(batch[0], tuple) else batch
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        event_shape = self.model.distribution.event_shape
        given = [x, y if self.labelled else None, None if self.inputs_only else sample_weight]
        present = [part is not None for part in given]
        labelled, weighted = self.labelled, present[2] or self.class_weight is not None

        def check(number, *parts):
            parts = iter(parts)
            rows = self._batch(number, tuple(next(parts) if there else None for there in present))
            return tuple(row for row in rows[1:] if row is not None) or np.True_

        head = self.model.head
        dtypes = [tf.int32 if head.integer_labels else head.variable_dtype] if labelled else []
        dtypes += [tf.float32] if weighted else []
        made = tf.numpy_function(check, [number, *_given(given)], dtypes or tf.bool)
        with tf.control_dependencies(tf.nest.flatten(made)):
            x = tf.ensure_shape(x, (None, *event_shape))
        x = tf.cast(x, checks.input_dtype(self.model.distribution))
        made = list(made) if dtypes else []
        y = tf.ensure_shape(made.pop(0), (None, *head.event_shape)) if labelled else None
        sample_weight = tf.ensure_shape(made.pop(0), (None,)) if weighted else None
        return _columns((x, y, sample_weight))


def in_batches(rows, batch_size, shuffle=False) -> tf.data.Dataset:
    """Batches of checked arrays `(x, y, sample_weight)`, of which some may be None."""
    return batches(_columns(rows), batch_size, shuffle)


def check_alone(y=None, sample_weight=None, validation_split=None):
    """Raises ValueError for arguments that go with arrays only, where x is a data set."""
    for argument, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise ValueError(f"{argument} is given beside a data set; wanted it inside: batches (x, y, sample_weight).")
    if validation_split:
        raise ValueError(f"validation_split is {validation_split}; wanted arrays for it, or validation_data.")


def first_batch(data):
    """The first batch of a data set or generator as `(x, y, sample_weight)`, and the data to go on with.

    A generator loses its first item by the look at it; the data that come back have it again.
    """
    if isinstance(data, tf.data.Dataset):
        _check_elements(data)
        batch = next(iter(data.take(1)), None)
    elif isinstance(data, keras.utils.PyDataset):
        batch = data[0] if data.num_batches != 0 else None
    else:
        batch = next(data, None)
        data = (item for item in itertools.chain([batch], data))
    if batch is None:
        raise ValueError("x is an empty data set; wanted at least one batch.")
    return keras.utils.unpack_x_y_sample_weight(batch), data


def _given(columns):
    return tuple(column for column in columns if column is not None)


def _columns(columns):
    """`(x, y, sample_weight)` as Keras packs it: without those at the end that are None."""
    x, y, sample_weight = columns
    return (x,) if y is None and sample_weight is None else (x, y) if sample_weight is None else (x, y, sample_weight)


def _check_elements(data):
    for part in tf.nest.flatten(data.element_spec):
        if not isinstance(part, tf.TensorSpec):
            raise ValueError(f"x is a data set of {type(part).__name__}; wanted batches of dense tensors.")


class _CheckedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches pass through a function of their number and value."""

    def __init__(self, data, convert):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self._data, self._convert = data, convert

    def __len__(self):
        return len(self._data)

    @property
    def num_batches(self):
        return self._data.num_batches

    def __getitem__(self, index):
        return self._convert(index, self._data[index])

    def on_epoch_begin(self):
        self._data.on_epoch_begin()

    def on_epoch_end(self):
        self._data.on_epoch_end()
