"""`Group`: what the rows of a table share that x does not say, such as a school or a patient."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid.heads.side_input_head import column

_BUCKETS = 2**62  # of the hashes of strings, which become integers below those that may be ids
_UNKNOWN = -1  # the number of a level that was not seen
_MOST_WHOLE = 2**53  # up to which all whole numbers are floats
_MOST = 2**24  # levels, whose numbers float32 holds


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Group:
    """One way in which rows are grouped, with an effect for each level: an intercept, and slopes.

    Args:
      levels: The ids of the levels, all integers or all strings. They may occur repeatedly and in any order, such as
        those of all training rows.
      slopes: The names of side inputs, each a number for each row, that have an effect of their own for each level.

    Attributes:
      levels: The different ids, sorted, `(L,)`.

    Raises:
      ValueError: If an id is missing, or neither an integer nor a string; or if there are fewer than two levels.

    Example:

    >>> heads.Group(["b", "a", "b"]).levels.tolist()
    ['a', 'b']
    """

    def __init__(self, levels, slopes: Sequence[str] = ()):
        ids = _ids(column(levels, "levels", "Group"), "Group: `levels`")
        self.has_strings = ids.dtype.kind == "U"
        self.levels = np.unique(ids)
        if not 2 <= len(self.levels) < _MOST:
            raise ValueError(f"Group: `levels` has {len(self.levels)} different ids; wanted 2 .. {_MOST - 1:,}.")
        if not self.has_strings and self.levels[0] < -_BUCKETS:
            raise ValueError(
                f"Group: `levels` holds {self.levels[0]}; wanted integers from {-_BUCKETS} on, or strings."
            )
        if not isinstance(slopes, Sequence):
            raise ValueError(f"Group: `slopes` is {slopes!r}; wanted names of side inputs.")
        self.slopes = tuple([slopes] if isinstance(slopes, str) else slopes)
        if not all(isinstance(name, str) for name in self.slopes) or len(set(self.slopes)) < len(self.slopes):
            raise ValueError(f"Group: `slopes` is {slopes!r}; wanted different names of side inputs.")
        keys = keys_of_strings(self.levels).numpy() if self.has_strings else self.levels
        self._order = np.argsort(keys)
        self._keys = keys[self._order]
        if (self._keys[1:] == self._keys[:-1]).any():
            raise ValueError("Group: `levels` has two strings of one hash; wanted others, or integers.")

    def __len__(self):
        return len(self.levels)

    @property
    def size(self) -> int:
        """k, the number of effects of a level on a linear predictor: the intercept and the slopes."""
        return 1 + len(self.slopes)

    @property
    def dtype(self) -> tf.DType:
        """That of ids as they are given."""
        return tf.string if self.has_strings else tf.int64

    def check(self, values, name: str, argument: str) -> np.ndarray:
        """Checks ids, and converts strings to the integers that stand for them. Those integers are taken as well.

        Raises:
          ValueError: If an id is missing, or not of the type of the levels.
        """
        ids = _ids(column(values, name, argument), f"{argument}: {name!r}")
        if ids.dtype.kind == "U":
            if not self.has_strings:
                raise ValueError(f"{argument}: {name!r} holds strings, but its levels are integers; wanted integers.")
            with tf.device("CPU"):
                return keys_of_strings(ids).numpy()
        are_keys = ids < -_BUCKETS
        if self.has_strings and not are_keys.all():
            raise ValueError(f"{argument}: {name!r} holds {ids[~are_keys][0]}; wanted strings, as its levels are.")
        if not self.has_strings and are_keys.any():
            raise ValueError(f"{argument}: {name!r} holds {ids.min()}; wanted integers from {-_BUCKETS} on.")
        return ids

    def are_levels(self, ids: np.ndarray) -> np.ndarray:
        """Returns which checked ids are levels, `(n,)`."""
        return np.isin(ids, self._keys)

    def numbers_of(self, ids) -> tf.Tensor:
        """The number of the level of each id, `(n,)` int32; -1 for ids that are no levels."""
        keys = keys_of_strings(ids) if ids.dtype == tf.string else tf.cast(ids, tf.int64)
        known = tf.constant(self._keys)
        place = tf.minimum(tf.searchsorted(known, keys), len(self) - 1)
        return tf.where(tf.gather(known, place) == keys, tf.gather(tf.constant(self._order, tf.int32), place), _UNKNOWN)

    def get_config(self) -> dict:
        return {"levels": self.levels.tolist(), "slopes": list(self.slopes)}

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config)


def keys_of_strings(strings) -> tf.Tensor:
    """Integers that stand for strings, all below -2**62."""
    return -_BUCKETS - 1 - tf.strings.to_hash_bucket_fast(strings, _BUCKETS)


def _ids(ids, argument):
    """Ids `(n,)` as an array of int64 or of strings."""
    if ids.dtype.kind in "OT":
        row = next((row for row, one in enumerate(ids) if _is_missing(one)), None)
        if row is not None:
            raise ValueError(_missing(argument, ids[row], row))
        if all(isinstance(one, (str, bytes)) for one in ids):
            ids = np.array([one.decode() if isinstance(one, bytes) else one for one in ids], str)
        elif all(isinstance(one, (int, np.integer)) for one in ids):
            _check_range(ids, argument)
            ids = ids.astype("int64")
        else:
            row = next((i for i, one in enumerate(ids) if type(one) is not type(ids[0]) or isinstance(one, float)), 0)
            raise ValueError(f"{argument} holds {ids[row]!r} in row {row}; wanted integers or strings, of one type.")
    if ids.dtype.kind == "S":
        ids = np.char.decode(ids)
    if ids.dtype.kind == "f":
        if np.isnan(ids).any():
            raise ValueError(_missing(argument, np.nan, np.isnan(ids).argmax()))
        bad = (ids != np.floor(ids)) | (np.abs(ids) >= _MOST_WHOLE)
        if bad.any():
            raise ValueError(f"{argument} holds {ids[bad][0]} in row {bad.argmax()}; wanted integers or strings.")
    if ids.dtype.kind not in "biufU":
        raise ValueError(f"{argument} has dtype {ids.dtype}; wanted integers or strings.")
    if ids.dtype.kind == "u":
        _check_range(ids, argument)
    return ids if ids.dtype.kind == "U" else ids.astype("int64")


def _check_range(ids, argument):
    """Raises ValueError for integers that int64 does not hold."""
    row = next((row for row, one in enumerate(ids) if not -(2**63) <= int(one) < 2**63), None)
    if row is not None:
        raise ValueError(f"{argument} holds {ids[row]} in row {row}; wanted integers of 64 bits, signed, or strings.")


def _is_missing(value):
    """Whether a value is None, NaN, or the NA of pandas, which has no truth value when it is compared."""
    return value is None or type(value).__name__ == "NAType" or value != value


def _missing(argument, value, row):
    return f"{argument} is missing ({value!r}) in row {row}; wanted an id. One that is no level stands for a new one."
