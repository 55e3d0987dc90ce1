"""`Target`: the response of a table, and whether it is a class or a number."""

import dataclasses

import numpy as np
import pandas as pd

from tfp_hybrid.tables.kinds import is_number, parse_numbers, unique_values

CLASSIFICATION, REGRESSION = TASKS = ("classification", "regression")
_MOST_CLASSES, _ROWS_PER_CLASS = 20, 10


@dataclasses.dataclass(frozen=True)
class Target:
    """The column that a model predicts.

    Attributes:
      name: Its name.
      task: "classification" or "regression".
      classes: The classes in the order of their codes, as JSON has them: strings, whole numbers, numbers or booleans;
        None for regression.
    """

    name: str
    task: str
    classes: tuple | None = None

    @classmethod
    def of(cls, column: pd.Series, path, task: str | None = None) -> tuple["Target", np.ndarray, str]:
        """Decides what a column of responses is, and reads it.

        Text, booleans, two different numbers, and whole numbers of at most 20 different values, with at least ten rows
        for each on average, are classes. Other numbers are numbers.

        Args:
          column: The column.
          path: The file that it is from, for error messages.
          task: "classification" or "regression", if it is known.

        Returns:
          The `Target`; y, `(n,)`, codes of classes or numbers; and the reason for the task, in words.

        Raises:
          ValueError: If a row has no response, or the responses do not suit the task or are all the same.
        """
        name, where = str(column.name), f"{path}: the target {column.name!r}"
        _check_complete(column, where)
        found, reason = _task(column, where)
        if task is not None:
            reason = "as the task says"
        if (task or found) == REGRESSION:
            y = _numbers(column, where)
            if np.ptp(y) == 0:
                raise ValueError(f"{where} is {y[0]:g} in all rows; wanted different numbers.")
            return cls(name, REGRESSION), y, reason
        levels, codes = unique_values(column, where)
        plain = [_plain(level, where) for level in levels]
        order = sorted(range(len(plain)), key=lambda i: (isinstance(plain[i], str), plain[i]))
        places = np.empty(len(order), int)
        places[order] = np.arange(len(order))
        if len(plain) < 2:
            raise ValueError(f"{where} is {plain[0]!r} in all rows; wanted at least two classes.")
        if 2 * len(plain) > len(column):
            raise ValueError(
                f"{where} has {len(plain):,} different values in {len(column):,} rows; wanted classes of several rows "
                "each, or the task regression for numbers."
            )
        return cls(name, CLASSIFICATION, tuple(plain[i] for i in order)), places[codes], reason

    @classmethod
    def from_metrics(cls, metrics: dict) -> "Target | None":
        """Returns the target of a run on a table, from its metrics; None for other runs."""
        if "target" not in metrics:
            return None
        classes = metrics.get("classes")
        return cls(metrics["target"], metrics["task"], None if classes is None else tuple(classes))

    @property
    def is_text(self) -> bool:
        """Whether all classes are text."""
        return self.classes is not None and all(isinstance(level, str) for level in self.classes)

    def read(self, column: pd.Series, path) -> np.ndarray:
        """Returns the responses in a column of another file as y, `(n,)`.

        Raises:
          ValueError: If a row has no response, or one that is not of the classes.
        """
        where = f"{path}: the target {self.name!r}"
        _check_complete(column, where)
        if self.classes is None:
            return _numbers(column, where)
        codes = {str(level): code for code, level in enumerate(self.classes)}
        codes |= {level: code for code, level in enumerate(self.classes) if not isinstance(level, bool)}
        levels, index = unique_values(column, where)
        keys = [str(level) if isinstance(level, bool) else level for level in levels]
        found = np.array([codes.get(key, codes.get(str(key), -1)) for key in keys])
        if (found < 0).any():
            row = int((found[index] < 0).argmax())
            raise ValueError(f"{where} is {levels[index[row]]!r} in row {row}; wanted one of {list(self.classes)}.")
        return found[index]


def _check_complete(column, where):
    missing = column.isna().to_numpy()
    if missing.any():
        first = int(missing.argmax())
        raise ValueError(
            f"{where} is missing in {missing.sum():,} of {len(column):,} rows, first in row {first} (rows count from "
            "0); wanted a value in each. Remove such rows."
        )


def _task(column, where):
    """Returns the task of a column without holes, and why."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return CLASSIFICATION, "the target is categories"
    if pd.api.types.is_bool_dtype(dtype) or column.map(lambda value: isinstance(value, bool)).all():
        return CLASSIFICATION, "the target is true or false"
    numeric = np.array([is_number(value) for value in column])
    if not numeric.all():
        if numeric.any():
            first, other = column.iloc[0], column.iloc[int((numeric != numeric[0]).argmax())]
            raise ValueError(f"{where} mixes numbers and others, such as {first!r} and {other!r}; wanted one of them.")
        return CLASSIFICATION, "the target is text"
    values = parse_numbers(column, where)
    count, whole = len(np.unique(values)), (values == np.floor(values)).all()
    if count == 2:
        return CLASSIFICATION, "the target has two values"
    if whole and count <= _MOST_CLASSES and len(values) >= _ROWS_PER_CLASS * count:
        return CLASSIFICATION, f"the target has {count} values, all whole numbers"
    return REGRESSION, "the target is numbers"


def _numbers(column, where):
    values = parse_numbers(pd.Series(column.to_numpy(object)), where)
    if np.abs(values).max() >= 1e150:
        row = int(np.abs(values).argmax())
        raise ValueError(f"{where} is {values[row]:g} in row {row}; wanted magnitudes below 1e150. Rescale it.")
    return values


def _plain(level, where):
    """Returns a class as JSON has it."""
    if isinstance(level, (bool, str)):
        return level
    if is_number(level):
        return int(level) if float(level).is_integer() else float(level)
    raise ValueError(f"{where} holds a {type(level).__name__}; wanted text, numbers or booleans.")
