"""`SideInputHead`, the base class of heads that see more of a row than its latent."""

import numpy as np
import tensorflow as tf

from tfp_hybrid.heads.wrapper import Wrapper


class SideInputHead(Wrapper):
    """A head that reads side inputs, such as an offset or the group of a row, beside the latent.

    A model with such a head takes inputs as a dict, `{"x": x, name: values}`. What the head sees of a row is

        (z, columns of the head inside, own columns)

    with one number for each column. A subclass has `own_inputs`, `own_columns` and `check_own`.
    """

    @property
    def own_inputs(self) -> dict[str, tf.TensorSpec]:
        """What this head reads beside what the head inside does."""
        raise NotImplementedError(f"{type(self).__name__}.own_inputs")

    def own_columns(self, given: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        """The columns for a batch, each `(n,)`, from checked side inputs by name."""
        raise NotImplementedError(f"{type(self).__name__}.own_columns")

    def check_own(self, given: dict[str, np.ndarray], argument: str) -> dict[str, np.ndarray]:
        """Checks the side inputs of this head and converts them to the dtypes of `own_inputs`."""
        raise NotImplementedError(f"{type(self).__name__}.check_own")

    @property
    def side_inputs(self) -> dict[str, tf.TensorSpec]:
        return self.head.side_inputs | self.own_inputs

    def side_columns(self, given):
        return [*self.head.side_columns(given), *self.own_columns(given)]

    def check_side_inputs(self, given, argument="x"):
        return self.head.check_side_inputs(given, argument) | self.check_own(given, argument)

    def split(self, seen, count: int) -> tuple[tf.Tensor, tf.Tensor]:
        """What the head inside sees of rows `(..., d + c)`, and the last `count` columns, `(..., count)`."""
        seen = tf.cast(seen, self.variable_dtype)
        return seen[..., : seen.shape[-1] - count], seen[..., seen.shape[-1] - count :]


def number_column(values, name: str, argument: str) -> np.ndarray:
    """Checks that a side input has one finite number for each row.

    Returns:
      The numbers, `(n,)`, float32.

    Raises:
      ValueError: If it has not.
    """
    values = column(values, name, argument)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: {name!r} has dtype {values.dtype}; wanted real numbers.")
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"{argument}: {name!r} holds {values[bad][0]} in row {bad.argmax()}; wanted finite numbers.")
    with np.errstate(over="ignore"):
        found = values.astype("float32")
    if not np.isfinite(found).all():
        row = (~np.isfinite(found)).argmax()
        raise ValueError(f"{argument}: {name!r} holds {values[row]} in row {row}; wanted numbers of 32 bits.")
    return found


def column(values, name: str, argument: str) -> np.ndarray:
    """Returns a side input as an array `(n,)`; `(n, 1)` is accepted as well.

    Raises:
      ValueError: If it has another shape.
    """
    has_text = isinstance(values, (list, tuple)) and any(isinstance(one, (str, bytes)) for one in values)
    values = np.array(values, object) if has_text else np.asarray(values)  # which would make text of all
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ValueError(f"{argument}: {name!r} has shape {values.shape}; wanted ('n',): one value for each row.")
    return values
