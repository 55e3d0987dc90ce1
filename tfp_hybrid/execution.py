"""How a step is executed: on which device, whether XLA compiles it, and how its rows are split between CPU cores."""

import contextlib
import contextvars
import os
from collections.abc import Callable, Iterator

import tensorflow as tf

from tfp_hybrid import _compat


def graph_function(function: Callable) -> Callable:
    """Returns a function of tensors that runs as a graph, one for batches of all sizes.

    Each model has functions of its own, so TensorFlow's warning of frequent tracing, which would come with the fifth
    model in a loop, is left out.
    """
    traced = tf.function(function, autograph=False, reduce_retracing=True)
    _compat.omit_tracing_warning(traced)
    return traced


def is_for_xla() -> bool:
    """Returns whether XLA will compile the function that is being traced; some layers have a variant for XLA."""
    return _compat.is_for_xla()


_TRACED_FOR_ACCELERATOR = contextvars.ContextVar("traced_for_accelerator", default=False)


def is_for_accelerator() -> bool:
    """Returns whether the function that is being traced will run on a GPU; some layers have a variant for CPUs."""
    return _TRACED_FOR_ACCELERATOR.get() or bool(tf.config.get_visible_devices("GPU"))


@contextlib.contextmanager
def traced_for_accelerator() -> Iterator[None]:
    """Returns a context manager in which functions are traced as on a machine with a GPU, to be exported for one."""
    token = _TRACED_FOR_ACCELERATOR.set(True)
    try:
        yield
    finally:
        _TRACED_FOR_ACCELERATOR.reset(token)


_TRACED_PLAINLY = contextvars.ContextVar("traced_plainly", default=False)


def is_inlined() -> bool:
    """Returns whether functions that are called in the one being traced become part of it."""
    return is_for_xla() or _TRACED_PLAINLY.get()


@contextlib.contextmanager
def traced_plainly() -> Iterator[None]:
    """Returns a context manager in which functions are traced for formats that know neither functions nor our CPU.

    There are no functions inside, and no variants that are fast on the CPU of this machine.
    """
    token = _TRACED_PLAINLY.set(True)
    try:
        with traced_for_accelerator():
            yield
    finally:
        _TRACED_PLAINLY.reset(token)


# Measured on two cores with 64 hidden units: the activations of a part stay in the caches, and a part is large enough
# to outweigh the fixed cost of an operation.
MIN_ROWS_PER_PART, PARTS_PER_CORE, MAX_PARTS = 512, 2, 8


def parts_for_cores(rows: tf.Tensor) -> list[tf.Tensor]:
    """Splits the rows of a matrix into parts that the cores of a CPU process in parallel.

    TensorFlow runs one operation after another, each on all cores. For operations as small as those on the features of
    a vector, distributing the work takes most of the time. Separate parts do not wait for each other.

    Args:
      rows: `(n, d)`. Tensors of another rank are not split, nor are small matrices, nor any tensor on a GPU, under XLA
        or in eager execution.

    Returns:
      A list of matrices whose concatenation is `rows`. If n is not known statically, some of them may be empty.
    """
    if rows.shape.rank != 2 or tf.executing_eagerly() or is_for_xla() or is_for_accelerator():
        return [rows]
    count, parts = rows.shape[0], min(PARTS_PER_CORE * (os.cpu_count() or 1), MAX_PARTS)
    if count is not None:
        parts = max(min(parts, count // MIN_ROWS_PER_PART), 1)
        return tf.split(rows, [count // parts] * (parts - 1) + [-1]) if parts > 1 else [rows]
    count = tf.shape(rows)[0]
    size = tf.maximum(-(-count // parts), MIN_ROWS_PER_PART)
    ends = tf.minimum(size * tf.range(parts + 1), count)
    return tf.split(rows, ends[1:] - ends[:-1], num=parts)
