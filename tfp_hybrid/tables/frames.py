"""Conversion of DataFrames to arrays of numbers, by column name."""

import decimal
import numbers
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.interchange


def is_frame(value) -> bool:
    """Returns whether `value` is a pandas DataFrame, without importing pandas."""
    return hasattr(value, "iloc") and hasattr(value, "columns")


def as_frame(value, argument: str = "frame"):
    """Returns a DataFrame of pandas as it is, and converts one of another library.

    It must have Arrow's stream of columns (`__arrow_c_stream__`) or the older interchange protocol (`__dataframe__`).

    Raises:
      ValueError: If `value` is neither; `argument` is its name in the message.
    """
    if is_frame(value):
        return value
    if hasattr(value, "__arrow_c_stream__"):
        return pa.table(value).to_pandas()
    if hasattr(value, "__dataframe__"):
        return pa.interchange.from_dataframe(value).to_pandas()
    raise ValueError(f"{argument} is a {type(value).__name__}; wanted a DataFrame.")


def column_names(frame, argument: str = "x") -> tuple[str, ...]:
    """Returns the column names of a DataFrame as strings.

    Raises:
      ValueError: If a name occurs more than once; `argument` is the DataFrame's name in the message.
    """
    names = tuple(map(str, frame.columns))
    check_once(names, argument)
    return names


def check_once(names: Sequence[str], argument: str | os.PathLike):
    """Raises ValueError if a column name occurs more than once; `argument` begins the message."""
    duplicates = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else ()
    if duplicates:
        raise ValueError(f"{argument} has the columns {duplicates} more than once; wanted each name once.")


def to_array(frame, names: Sequence[str] | None = None, argument: str = "x") -> np.ndarray:
    """Converts columns of a DataFrame to an array.

    Args:
      frame: A DataFrame whose columns hold numbers, booleans (0 or 1) or decimals.
      names: The names of the columns to convert, in this order; all columns if None.
      argument: The name of the DataFrame in error messages.

    Returns:
      The columns side by side, `(n, d)`, float64.

    Raises:
      ValueError: If a column is absent or a name occurs more than once; or if a value is missing or not a number, in
        which case the message gives its column and row.
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
            f"{argument}: the column {name!r} is NaN or missing in row {absent.argmax()}; wanted finite numbers. "
            "Remove or fill such rows."
        )
    if getattr(column.dtype, "kind", "O") not in "biuf":
        non_numbers = [row for row, value in enumerate(column) if not _is_number(value)]
        if non_numbers:
            # A column read from text is text throughout if one value is not a number: report that value.
            row = next((row for row in non_numbers if not _reads_as_number(column.iloc[row])), non_numbers[0])
            raise ValueError(
                f"{argument}: the column {name!r} has dtype {column.dtype} and holds {column.iloc[row]!r} in row "
                f"{row}; wanted real numbers."
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
