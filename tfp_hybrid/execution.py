"""How a step is run: by which device, whether XLA compiles it, and its rows in parts for the cores."""

import contextlib
import contextvars
import os

import tensorflow as tf

from tfp_hybrid import _compat


def is_for_xla() -> bool:
    """Whether what is being traced will be compiled by XLA: some layers then take another form."""
    return _compat.is_for_xla()


_TRACED_FOR_ACCELERATOR = contextvars.ContextVar("traced_for_accelerator", default=False)


def is_for_accelerator() -> bool:
    """Whether what is being traced will run on a GPU: some layers are written differently for CPUs."""
    return _TRACED_FOR_ACCELERATOR.get() or bool(tf.config.get_visible_devices("GPU"))


@contextlib.contextmanager
def traced_for_accelerator():
    """Inside this context, functions are traced as they would be on a machine with a GPU, to be exported for one."""
    token = _TRACED_FOR_ACCELERATOR.set(True)
    try:
        yield
    finally:
        _TRACED_FOR_ACCELERATOR.reset(token)


# Measured with two cores, at 64 units: a part's activations stay in the caches, and it is large enough for what an
# operation costs besides.
ROWS_OF_A_PART, PARTS_OF_A_CORE, PARTS = 512, 2, 8


def parts_for_cores(rows) -> list:
    """A matrix's rows in parts that a CPU's cores take side by side.

    TensorFlow runs one operation after the other, each on all cores; where operations are as small as those on a
    vector's features, handing them out takes most of the time. Parts do not wait for each other.

    Args:
      rows: `(n, d)`. Comes back whole if it is anything else, too small, or meant for a GPU, XLA or eager execution.

    Returns:
      A list of matrices, one after the other the rows. Where n is not known, those that few rows leave over are empty.
    """
    if rows.shape.rank != 2 or tf.executing_eagerly() or is_for_xla() or is_for_accelerator():
        return [rows]
    count, parts = rows.shape[0], min(PARTS_OF_A_CORE * os.cpu_count(), PARTS)
    if count is not None:
        parts = max(min(parts, count // ROWS_OF_A_PART), 1)
        return tf.split(rows, [count // parts] * (parts - 1) + [-1]) if parts > 1 else [rows]
    count = tf.shape(rows)[0]
    size = tf.maximum(-(-count // parts), ROWS_OF_A_PART)
    ends = tf.minimum(size * tf.range(parts + 1), count)
    return tf.split(rows, ends[1:] - ends[:-1], num=parts)
