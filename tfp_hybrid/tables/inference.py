"""`infer_kinds`: what the columns of a DataFrame hold, by their dtypes, names and values."""

import re

import numpy as np
import pandas as pd

from tfp_hybrid.tables import frames
from tfp_hybrid.tables.kinds import Category, Circle, Clock, Date, Kind, Number, is_number, is_text, parse_numbers

_MOST_DIGITS, _FINEST = 6, 2**40
# Numbers on a circle are recognized by the name of the column, and only if all of them are on the circle.
_CIRCLES = (
    (r"hour|hr|hourofday", (Circle(resolution=1.0, period=24.0),)),
    (r"weekday|dayofweek|dow", (Circle(resolution=1.0, period=7.0), Circle(resolution=1.0, period=7.0, origin=1.0))),
    (r"month|mnth|mon", (Circle(resolution=1.0, period=12.0, origin=1.0), Circle(resolution=1.0, period=12.0))),
    (r".*time", (Clock(),)),
)


def infer_kinds(frame: pd.DataFrame, argument: str = "frame") -> dict[str, Kind]:
    """Returns the kind of each column.

    * Booleans, text and pandas' categories are a `Category`; text that is all ISO dates is a `Date`, as are pandas'
      dates.
    * Whole numbers are a `Circle` if the column is named hour, weekday or month (or in a similar way) and holds nothing
      else, and a `Clock` if its name ends in "time" and all are valid hhmm times, some of them after 1 o'clock.
    * Other numbers are a `Number`. (Bounds are never inferred: one new value outside of them would have log p(x) of
      minus infinity.)

    Args:
      frame: A DataFrame.
      argument: Its name in error messages.

    Raises:
      ValueError: If a column has no value in any row, or mixes numbers and text, or holds lists or the like.
    """
    names = frames.column_names(frame, argument)
    if names and not len(frame):
        raise ValueError(f"{argument} has no rows; wanted at least one.")
    return {name: _kind(frame.iloc[:, i], name, f"{argument}: the column {name!r}") for i, name in enumerate(names)}


def _kind(column, name, where):
    known = column[~column.isna().to_numpy()]
    if not len(known):
        raise ValueError(f"{where} has no value in any row; wanted some. Remove it.")
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(dtype):
        return Category()
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return Date()
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return _kind_of_numbers(parse_numbers(known, where), name)
    if not is_text(column):
        raise ValueError(f"{where} has dtype {dtype}; wanted numbers, text, booleans or dates.")
    return _kind_of_objects(known, name, where)


def _kind_of_objects(known, name, where):
    kinds = {value_type: None for value_type in map(type, known)}
    if all(issubclass(kind, (bool, np.bool_)) for kind in kinds):
        return Category()
    if all(issubclass(kind, str) for kind in kinds):
        return Date() if _is_iso(known) else Category()
    numeric = np.array([is_number(value) for value in known])
    if numeric.all():
        return _kind_of_numbers(parse_numbers(known, where), name)
    if all(hasattr(kind, "isoformat") for kind in kinds):
        return Date()
    first, other = known.iloc[0], known.iloc[int((numeric != numeric[0]).argmax())]
    if numeric.any() and any(isinstance(value, str) for value in (first, other)):
        raise ValueError(
            f"{where} mixes numbers and text, such as {first!r} and {other!r}; wanted one of them, or "
            f"kinds={{{name!r}: tables.Category()}}."
        )
    held = next(value for value in known if not is_number(value) and not isinstance(value, str))
    raise ValueError(f"{where} holds a {type(held).__name__}; wanted numbers, text, booleans or dates.")


def _is_iso(known):
    pattern = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?"
    if not known.str.fullmatch(pattern).all():
        return False
    return bool(pd.to_datetime(known, format="ISO8601", errors="coerce", utc=True).notna().all())


def _kind_of_numbers(values, name):
    plain = re.sub(r"[^a-z]", "", name.lower())
    whole = (values == np.floor(values)).all()
    for pattern, circles in _CIRCLES:
        if whole and re.fullmatch(pattern, plain):
            for circle in circles:
                if _is_on(values, circle):
                    return circle
    return Number()


def _is_on(values, circle):
    if isinstance(circle, Clock):
        valid = (values >= 0) & (values <= 2400) & (values % 100 < 60)
        return valid.all() and (values > 100).any()
    return ((values >= circle.origin) & (values < circle.origin + circle.period)).all()


def find_resolution(values: np.ndarray) -> float | None:
    """Returns the step of the coarsest grid with at most six decimals that all values are on, or None."""
    unique = np.unique(values)
    for digits in range(_MOST_DIGITS + 1):
        scaled = unique * 10.0**digits
        whole = np.round(scaled)
        if np.abs(whole).max() >= 2**53:
            return None
        if np.allclose(scaled, whole, rtol=1e-14, atol=0):  # what rounding to decimals leaves
            steps = np.diff(whole.astype(np.int64))
            step = int(np.gcd.reduce(steps)) if len(steps) else 1
            return step / 10.0**digits if steps.sum() <= _FINEST * step else None
    return None
