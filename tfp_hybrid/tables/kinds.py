"""The kinds of columns: how the values of each are read as numbers, and how numbers become values again."""

import dataclasses
import datetime
import decimal
import numbers

import numpy as np
import pandas as pd

from tfp_hybrid import registry

_DAY = 86_400e6  # microseconds
_LATEST = 2.53402300799e17  # the last second of the year 9999
MINUTES = 1440  # of a day


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a column holds. A kind is saved by its class and its fields.

    Its columns become numbers by `parse` and values again by `format`. A number x that is on a grid of the step
    `resolution` stands for the interval [x, x + resolution), from which the dequantization draws.
    """

    resolution: float | str | None = "auto"
    is_circle = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.register(cls)

    @property
    def parameters(self) -> dict:
        """The arguments of the constructor, as a saved model keeps them."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def parse(self, column: pd.Series, where: str) -> np.ndarray:
        """Returns the values as float64 numbers, with NaN for holes; `where` begins error messages."""
        raise NotImplementedError(f"{type(self).__name__}.parse")

    def format(self, values: np.ndarray, dtype: str) -> pd.Series:
        """Returns numbers as the values that they stand for, of the dtype if it can hold them."""
        raise NotImplementedError(f"{type(self).__name__}.format")

    def is_impossible(self, values: np.ndarray) -> np.ndarray:
        """Returns which numbers stand for no value, new or known; `format` could not make one of them."""
        return np.zeros(len(values), bool)

    def describe(self) -> str:
        """Returns the kind in words."""
        raise NotImplementedError(f"{type(self).__name__}.describe")


@dataclasses.dataclass(frozen=True)
class Number(Kind):
    """A number, with a density.

    Args:
      resolution: The step of the grid on which the numbers are recorded, such as 1 for whole numbers or 0.01 for cents;
        they are dequantized by it. None for numbers that are on no grid. "auto" finds out.
      lower: A bound that no number is below, or None. p(x) is zero below it.
      upper: A bound that no number is above, or None.
    """

    lower: float | None = None
    upper: float | None = None

    def __post_init__(self):
        if isinstance(self.resolution, str) and self.resolution != "auto":
            raise ValueError(f"Number: `resolution` is {self.resolution!r}; wanted a positive number, None or 'auto'.")
        if isinstance(self.resolution, numbers.Real) and not 0 < self.resolution < np.inf:
            raise ValueError(f"Number: `resolution` is {self.resolution!r}; wanted a positive number, None or 'auto'.")
        if self.lower is not None and self.upper is not None and not self.lower < self.upper:
            raise ValueError(f"Number: `lower` is {self.lower!r} and `upper` {self.upper!r}; wanted lower < upper.")

    def parse(self, column, where):
        return parse_numbers(column, where)

    def format(self, values, dtype):
        return as_dtype(pd.Series(values), dtype)

    def describe(self):
        whole = "whole number" if self.resolution == 1 else "number"
        step = f", steps of {self.resolution:g}" if self.resolution not in (None, 1, "auto") else ""
        above = "" if self.lower is None else f", at least {self.lower:g}"
        return f"{whole}{step}{above}{'' if self.upper is None else f', at most {self.upper:g}'}"


@dataclasses.dataclass(frozen=True)
class Category(Kind):
    """One of several levels, with a probability; a value that is none of them is the level "unseen".

    Args:
      levels: The levels in the order of their codes 0 .. K-1; None takes those of the data.
      most: The most levels that are taken from the data, the most frequent ones; the others count as unseen.
    """

    resolution: float | str | None = 1.0
    levels: tuple | None = None
    most: int = 1000

    def parse(self, column, where):
        codes = {level: code for code, level in enumerate(self.levels)}
        codes |= {str(level): code for level, code in codes.items() if str(level) not in codes}
        missing, unseen = column.isna().to_numpy(), len(self.levels)
        unique, inverse = unique_values(column[~missing], where)
        known = np.array([codes.get(value, codes.get(str(value), unseen)) for value in unique], float)
        found = np.full(len(column), np.nan)
        found[~missing] = known[inverse] if len(unique) else ()
        return found

    def format(self, values, dtype):
        levels = pd.Series(list(self.levels), dtype=object)
        missing = np.isnan(values)
        codes = np.clip(np.where(missing, 0, values), 0, len(levels) - 1).astype(int)
        column = levels.iloc[codes].reset_index(drop=True)
        column[missing] = None
        if dtype == "category":
            return pd.Series(pd.Categorical(column, categories=list(self.levels)))
        return as_dtype(column, dtype)

    def is_impossible(self, values):
        return ~np.isnan(values) & ((values != np.floor(values)) | (values < 0) | (values > len(self.levels)))

    def describe(self):
        return "category" if self.levels is None else f"category of {len(self.levels)} levels"


@dataclasses.dataclass(frozen=True)
class Circle(Kind):
    """A number on a circle, such as an hour or a direction: `origin` follows after `origin + period`.

    Args:
      resolution: As for `Number`.
      period: The length of the circle, such as 24, 7, 12 or 360.
      origin: The first number of the circle, such as 1 for months.
    """

    period: float = 24.0
    origin: float = 0.0
    is_circle = True

    def __post_init__(self):
        if not 0 < self.period < np.inf:
            raise ValueError(f"{type(self).__name__}: `period` is {self.period!r}; wanted a positive number.")

    def parse(self, column, where):
        values = parse_numbers(column, where)
        outside = (values < self.origin) | (values > self.origin + self.period)
        if outside.any():
            row = int(outside.argmax())
            raise ValueError(
                f"{where} holds {values[row]:g} in row {row}; wanted numbers from {self.origin:g} to "
                f"{self.origin + self.period:g}, on a circle."
            )
        return np.where(values == self.origin + self.period, self.origin, values)

    def format(self, values, dtype):
        return as_dtype(pd.Series(values), dtype)

    def is_impossible(self, values):
        return (values < self.origin) | (values >= self.origin + self.period)

    def describe(self):
        return f"circle, {self.origin:g} to {self.origin + self.period:g}"


@dataclasses.dataclass(frozen=True)
class Clock(Circle):
    """A time of day as an hhmm number, such as 1345 for a quarter to two; a circle of 1,440 minutes.

    p(x) is a probability of minutes, so that numbers that are no time, such as 1375, have none. 2400 is midnight.
    """

    resolution: float | str | None = 1.0
    period: float = float(MINUTES)

    def parse(self, column, where):
        values = parse_numbers(column, where)
        known = values[~np.isnan(values)]
        hour, minute = np.divmod(known, 100)
        bad = (known != np.floor(known)) | (minute >= 60) | (known < 0) | (known > 2400)
        if bad.any():
            row = int(np.flatnonzero(~np.isnan(values))[bad.argmax()])
            raise ValueError(
                f"{where} holds {values[row]:g} in row {row}, which is no time; wanted hhmm numbers from 0 to 2400."
            )
        values[~np.isnan(values)] = (60 * hour + minute) % MINUTES
        return values

    def format(self, values, dtype):
        hour, minute = np.divmod(values, 60)
        return as_dtype(pd.Series(100 * hour + minute), dtype)

    def describe(self):
        return "time of day, hhmm"


@dataclasses.dataclass(frozen=True)
class Date(Kind):
    """A date or a time, counted in days since 1970 (UTC); text is read as ISO 8601."""

    def parse(self, column, where):
        missing = column.isna().to_numpy()
        if pd.api.types.is_numeric_dtype(column.dtype):
            raise ValueError(f"{where} holds numbers; wanted dates, or text such as 2024-02-28.")
        times = pd.to_datetime(column, utc=True, format="ISO8601" if is_text(column) else None, errors="coerce")
        bad = times.isna().to_numpy() & ~missing
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"{where} holds {column.iloc[row]!r} in row {row}; wanted dates as in 2024-02-28.")
        micros = times.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype("int64")
        return np.where(missing, np.nan, micros / _DAY)

    def format(self, values, dtype):
        missing = np.isnan(values)
        micros = np.clip(np.round(np.where(missing, 0, values) * _DAY), -_LATEST, _LATEST)
        times = pd.Series(micros.astype("int64").astype("datetime64[us]")).where(~missing)
        if dtype.startswith("datetime64"):
            zone = dtype.partition(", ")[2].rstrip("]")
            return times.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else times.astype(dtype)
        whole_days = bool((values[~np.isnan(values)] % 1 == 0).all())
        text = times.dt.strftime("%Y-%m-%d" if whole_days else "%Y-%m-%dT%H:%M:%S")
        return as_dtype(text.where(times.notna(), None), dtype)

    def describe(self):
        return "date" if isinstance(self.resolution, float) and self.resolution.is_integer() else "date and time"


def is_text(column: pd.Series) -> bool:
    """Returns whether the column may hold strings: it is not one of numbers, booleans or dates."""
    return column.dtype == object or pd.api.types.is_string_dtype(column.dtype)


def as_dtype(column: pd.Series, dtype: str) -> pd.Series:
    """Returns the column with the dtype, or with that which it has if it cannot: holes among integers, for example."""
    try:
        return column.astype(dtype)
    except (ValueError, TypeError, NotImplementedError):  # the last from dtypes of Arrow
        return column


def unique_values(column: pd.Series, where: str) -> tuple[list, np.ndarray]:
    """Returns the different values of a column without holes, and the index of each row's value among them."""
    try:
        codes, unique = pd.factorize(column)
    except TypeError:
        row = next(row for row, value in enumerate(column) if value.__hash__ is None)
        held = type(column.iloc[row]).__name__
        raise ValueError(f"{where} holds a {held} in row {row}; wanted numbers, text, booleans or dates.") from None
    return [value.item() if isinstance(value, np.generic) else value for value in unique], codes


def parse_numbers(column: pd.Series, where: str) -> np.ndarray:
    """Returns a column as float64 numbers, with NaN for holes.

    Raises:
      ValueError: If a value is not a real number, is infinite or is too large; `where` begins the message.
    """
    missing = column.isna().to_numpy()
    if getattr(column.dtype, "kind", "O") in "iu" and not missing.all():
        largest = max((int(column.min()), int(column.max())), key=abs)
        if abs(largest) > 2**53:
            raise ValueError(
                f"{where} holds {largest}; wanted integers up to 2**53, which float64 holds exactly. Keys are a "
                "tables.Category(), or better removed."
            )
    if getattr(column.dtype, "kind", "O") not in "biuf":
        for row in np.flatnonzero(~missing):
            if not is_number(column.iloc[row]):
                held = column.iloc[row]
                raise ValueError(f"{where} holds {held!r} in row {row}; wanted numbers.")
    try:
        values = column.astype(object).where(~missing, np.nan).to_numpy(float) if column.dtype == object else None
        values = column.to_numpy(float, na_value=np.nan) if values is None else values
    except OverflowError as error:
        raise ValueError(f"{where} holds a number that is too large: {error}.") from None
    infinite = np.isinf(values)
    if infinite.any():
        row = int(infinite.argmax())
        raise ValueError(f"{where} holds {values[row]} in row {row}; wanted finite numbers, or none in holes.")
    return values


def is_number(value) -> bool:
    """Returns whether a value is a real number; dates are not."""
    return isinstance(value, (numbers.Real, decimal.Decimal, np.bool_)) and not isinstance(value, datetime.date)
