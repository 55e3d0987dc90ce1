"""`InputSpec`: the shape and values of the inputs that a model takes."""

import dataclasses
import weakref

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bijectors import Dequantize, Lattice
from tfp_hybrid.tables import Columns

tfd = tfp.distributions


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """What one input is: an event of a distribution, or what an encoder takes.

    Attributes:
      shape: The shape of one input. None stands for any size.
      dtype: The dtype in which it is computed with.
      levels: The number of integer levels of each entry, or None for continuous inputs.
      of: What these inputs are, in words.
      columns: The `Columns` of a table, for which inputs may be DataFrames and have holes, NaN; or None.
    """

    shape: tuple[int | None, ...]
    dtype: tf.DType
    levels: int | None
    of: str = "the flow's events"
    columns: Columns | None = None

    def stored_dtype(self, given) -> str:
        """Returns the dtype to which inputs of the dtype `given` are cast: `dtype`, or one that takes less memory.

        For integers it is the smallest that holds all levels; an encoder's images may stay bytes. All inputs of a model
        get one dtype as far as possible, since a function is traced again for another one.
        """
        if self.levels is not None:
            return "uint8" if self.levels <= 256 else "int32"
        is_bytes = tf.as_dtype(given) == tf.uint8 and self.of != InputSpec.of
        return "uint8" if is_bytes else self.dtype.name

    def fits(self, shape) -> bool:
        """Returns whether an input may have this shape."""
        return tf.TensorShape(self.shape).is_compatible_with(shape)


_OF_DISTRIBUTIONS = weakref.WeakKeyDictionary()


def of_distribution(distribution: tfd.Distribution) -> InputSpec:
    """Returns the spec of a distribution's events. It is kept, since TFP needs milliseconds to compute it."""
    if distribution not in _OF_DISTRIBUTIONS:
        parts = (distribution, *distribution.submodules)
        of_integers = (part for part in parts if isinstance(part, (Dequantize, Lattice)))
        levels = next((part.quantization_levels for part in of_integers), None)
        columns = next((part for part in parts if isinstance(part, Columns)), None)
        spec = InputSpec(tuple(distribution.event_shape), distribution.dtype, levels, columns=columns)
        _OF_DISTRIBUTIONS[distribution] = spec
    return _OF_DISTRIBUTIONS[distribution]


def of_encoder(encoder: keras.Model) -> InputSpec:
    """Returns the spec of an encoder's inputs."""
    (taken,) = encoder.inputs
    return InputSpec(tuple(taken.shape[1:]), tf.as_dtype(taken.dtype), None, "the encoder's inputs")
