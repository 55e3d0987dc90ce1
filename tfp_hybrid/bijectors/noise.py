"""Seeds that training counts up; and uniform noise, fresh in training and else a pseudo-random function of the row."""

import contextlib

import numpy as np
import tensorflow as tf


class RowNoise:
    """A base class of bijectors whose noise is a fixed function of the row outside of training.

    A subclass makes `_draw`, by `draw_number`, and adds it to the rows that it hashes.
    """

    @contextlib.contextmanager
    def draw(self, number: int):
        """A context in which the noise is another fixed function of the row for each number; 0 is the usual one.

        The mean of p(x) over several draws is the importance-weighted bound of p(x), which is tighter than that of one
        draw; and the mean of p(y|x) does not depend on what the noise of one draw happens to be.

        The number is a state of the bijector: what other threads ask of it meanwhile has this noise, too.
        """
        former = tf.identity(self._draw)
        try:
            self._draw.assign(number)
            yield
        finally:
            self._draw.assign(former)


def draw_number(name: str) -> tf.Variable:
    """Returns the variable of `RowNoise`."""
    return tf.Variable(0, trainable=False, dtype=tf.int64, name=f"{name}/draw")


def random_state(name: str) -> tf.Variable:
    """Returns a variable of a seed and a count; the seed follows `keras.utils.set_random_seed`."""
    return tf.Variable(
        [np.random.randint(2**31), 0],
        trainable=False,
        dtype=tf.int64,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        name=f"{name}/random_state",
    )


def fresh_uniform(state: tf.Variable, shape, dtype) -> tf.Tensor:
    """Draws new numbers in [0, 1), with a `fresh_seed`."""
    return tf.random.stateless_uniform(shape, fresh_seed(state), dtype=dtype)


def fresh_seed(state: tf.Variable) -> tf.Tensor:
    """Returns a new seed `(2,)`, another on each replica of a `tf.distribute` strategy, and counts up `state`."""
    seed = tf.identity(state)
    state.assign_add(tf.constant([0, 1], tf.int64))
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        seed = tf.random.fold_in(seed, context.replica_id_in_sync_group)
    return seed


def hash_constants(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the odd weights and the offsets by which `row_uniform` hashes `size` entries."""
    weights, offsets = 2 * np.random.default_rng(0).integers(-(2**62), 2**62, (2, size)) + 1
    return weights, offsets


def row_uniform(rows, weights, offsets, dtype, bits: int = 24) -> tf.Tensor:
    """Hashes each row of integers to one 64-bit number, and that number with each offset to uniform bits.

    Args:
      rows: `(n, d)`, int64.
      weights: `(d,)`, from `hash_constants`.
      offsets: `(k,)`, from `hash_constants`.
      dtype: The dtype of the numbers.
      bits: The number of bits of each.

    Returns:
      `(n, k)`, multiples of 2 ** -bits in [0, 1).
    """
    hashed = tf.reduce_sum((rows + 1) * weights, axis=-1, keepdims=True)
    found = _mixed(_mixed(hashed) ^ offsets) & (2**bits - 1)
    return tf.cast(found, dtype) / 2**bits


def _mixed(bits):
    """Spreads each bit of a 64-bit integer over all bits, as the finalizer of SplitMix64, but with signed shifts."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, bits.dtype)))
        bits *= tf.constant(factor, bits.dtype)
    return tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(31, bits.dtype)))
