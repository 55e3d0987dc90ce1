"""A DataFrame's columns as one array of numbers, by name."""

import decimal
import numbers

import numpy as np


def is_frame(value) -> bool:
    """Whether `value` is a pandas DataFrame; pandas itself need not be imported for that."""
    return hasattr(value, "iloc") and hasattr(value, "columns")


def column_names(frame, argument="x") -> tuple[str, ...]:
    """The names of a DataFrame's columns as strings; ValueError if one comes twice."""
    names = tuple(map(str, frame.columns))
    check_once(names, argument)
    return names


def check_once(names, argument):
    """Raises ValueError if a name comes twice."""
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else ()
    if twice:
        raise ValueError(f"{argument}: the columns {twice} are there more than once; wanted each name once.")


def to_array(frame, names=None, argument="x") -> np.ndarray:
    """The columns side by side, `(n, d)`, float64.

    Args:
      frame: a DataFrame whose columns hold numbers, booleans (0 or 1) or decimals.
      names: the columns that are wanted, in this order; others are left out. All columns if None.
      argument: what errors call the frame.

    Raises:
      ValueError: if a wanted column is absent, a name comes twice, or a value is missing or no number; names the column
        and the row.
    """
    present = column_names(frame, argument)
    names = present if names is None else tuple(names)
    missing = [name for name in names if name not in present]
    if missing:
        raise ValueError(f"{argument} lacks the columns {missing}; wanted {list(names)}.")
    columns = [_numbers(frame.iloc[:, present.index(name)], name, argument) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))


def _numbers(column, name, argument):
    absent = column.isna().to_numpy()
    if absent.any():
        raise ValueError(
            f"{argument}: the column {name!r} holds nan or nothing in row {absent.argmax()}; wanted finite numbers. "
            "Remove or fill such rows."
        )
    if getattr(column.dtype, "kind", "O") not in "biuf":
        strange = [row for row, value in enumerate(column) if not _is_number(value)]
        if strange:
            # In a column of text, the word among the numbers is what makes it one.
            row = next((row for row in strange if not _reads_as_number(column.iloc[row])), strange[0])
            raise ValueError(
                f"{argument}: the column {name!r} is of {column.dtype}, and holds {column.iloc[row]!r} in row {row}; "
                "wanted real numbers."
            )
    try:
        return column.astype(object).to_numpy(float) if column.dtype == object else column.to_numpy(float)
    except OverflowError as error:
        raise ValueError(f"{argument}: the column {name!r} holds a number that is too large: {error}.") from None


def _is_number(value):
    return isinstance(value, (numbers.Real, decimal.Decimal, np.bool_))


def _reads_as_number(value):
    try:
        return isinstance(value, str) and np.isfinite(float(value))
    except ValueError:
        return False
