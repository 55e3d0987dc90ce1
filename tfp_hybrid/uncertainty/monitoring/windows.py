"""Windows of time or of rows: to which window a row belongs."""

import datetime
import time

import numpy as np
import pandas as pd

from tfp_hybrid import arguments
from tfp_hybrid.uncertainty.monitoring.tally import Tally

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_FARTHEST = 2**62  # number of a row


def check_window(window: datetime.timedelta | int):
    """Raises ValueError unless `window` is a length of time in whole seconds or a number of rows, above 0."""
    if not isinstance(window, datetime.timedelta):
        arguments.check_count(window, "window")
    elif window < datetime.timedelta(seconds=1) or window % datetime.timedelta(seconds=1):
        raise ValueError(f"window is {window}; wanted whole seconds, at least one.")


def window_of_rows(window: datetime.timedelta | int, at, rows: int, counted: int) -> np.ndarray:
    """Returns the number of the window of each row, `(rows,)`.

    Args:
      window: The length of a window.
      at: As in `Monitor.update`.
      rows: The number of rows.
      counted: The number of rows that were counted before.

    Raises:
      ValueError: If `at` is not what the window needs.
    """
    if not isinstance(window, datetime.timedelta):
        first = counted if at is None else at
        arguments.check_count(first, "at", least=0)
        if first >= _FARTHEST:
            raise ValueError(f"at is {first}; wanted the number of a row.")
        return (first + np.arange(rows)) // window
    seconds = _seconds(time.time() if at is None else at)
    if seconds.shape not in ((), (rows,)):
        raise ValueError(f"at has shape {seconds.shape}; wanted one time, or a time for each of the {rows} rows.")
    return np.broadcast_to(seconds // window.total_seconds(), (rows,)).astype(np.int64)


def newest(windows: dict[int, Tally], keep: int) -> dict[int, Tally]:
    """Returns the `keep` windows of the highest numbers, in order.

    A window that is left out once is left out of every later merge, too, since those above it stay. So it does not
    matter when the others are left out.
    """
    return {index: windows[index] for index in sorted(windows)[-keep:]}


def start_of(index: int, window: datetime.timedelta | int) -> pd.Timestamp | int:
    """Returns the start of a window: a time in UTC, or the number of its first row."""
    if isinstance(window, datetime.timedelta):
        return pd.Timestamp(index * int(window.total_seconds()), unit="s", tz="UTC")
    return index * window


def _seconds(at):
    """Returns times as seconds since 1970."""
    if isinstance(at, datetime.datetime):
        if at.tzinfo is None:
            raise ValueError(f"at is {at!r}, without a time zone; wanted one, such as datetime.UTC.")
        return np.asarray((at - _EPOCH).total_seconds())
    at = np.asarray(at)
    if at.dtype.kind == "M":
        seconds = at.astype("datetime64[us]").astype(np.int64) / 1e6
        seconds = np.where(np.isnat(at), np.nan, seconds)
    elif at.dtype.kind in "iuf":
        seconds = at.astype(float)
    else:
        raise ValueError(
            f"at is of type {at.dtype}; wanted seconds since 1970, a datetime with a time zone, or datetime64 in UTC."
        )
    years = datetime.datetime(1970, 1, 1), datetime.datetime(2262, 1, 1)
    wrong = ~((seconds >= 0) & (seconds < (years[1] - years[0]).total_seconds()))
    if wrong.any():
        raise ValueError(f"at holds {at[wrong].flat[0]}; wanted times from 1970 to 2261, in seconds since 1970.")
    return seconds
