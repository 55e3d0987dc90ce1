"""A DataFrame's columns as one array of numbers, by name."""

import decimal
import numbers

import numpy as np


def is_frame(value) -> bool:
    """Whether `value` is a pandas DataFrame (or looks like one); pandas itself need not be imported for that."""
    return hasattr(value, "columns") and hasattr(value, "dtypes")


def column_names(frame, argument="x") -> tuple[str, ...]:
    """The names of a DataFrame's columns as strings; ValueError if one comes twice."""
    names = tuple(map(str, frame.columns))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{argument} has the column {twice[0]!r} twice; wanted each name once.")
    return names


def to_array(frame, names=None, argument="x") -> np.ndarray:
    """The columns side by side, `(n, d)`, float64; a missing value becomes NaN.

    Args:
      frame: a DataFrame whose columns hold numbers, booleans or decimals.
      names: the columns that are wanted, in this order; others are left out. All columns if None.
      argument: what errors call the frame.

    Raises:
      ValueError: if a wanted column is absent, a name comes twice, or a column holds no numbers; names the column.
    """
    present = column_names(frame, argument)
    names = present if names is None else tuple(names)
    missing = [name for name in names if name not in present]
    if missing:
        raise ValueError(f"{argument} lacks the columns {missing}; wanted {list(names)}, found {list(present)}.")
    columns = [_numbers(frame.iloc[:, present.index(name)], name, argument) for name in names]
    return np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))


def _numbers(column, name, argument):
    kind = getattr(column.dtype, "kind", "O")
    if kind in "biuf":
        return column.to_numpy(dtype="float64", na_value=np.nan)
    if kind == "O":
        present = column[~column.isna()]
        strange = [value for value in present if not isinstance(value, (numbers.Real, decimal.Decimal, np.bool_))]
        if not strange:
            return column.astype(object).where(~column.isna(), np.nan).to_numpy(dtype="float64")
        found = f"{strange[0]!r}, of dtype {column.dtype}"
    else:
        found = f"dtype {column.dtype}"
    raise ValueError(f"{argument}: the column {name!r} holds {found}; wanted numbers. Encode it, or leave it out.")
