"""Readers for the two formats of the flight data."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import tensorflow_datasets as tfds

FEATURES = (
    "Month",
    "DayofMonth",
    "DayOfWeek",
    "PlaneAge",
    "AirTime",
    "Distance",
    "ArrTime",
    "DepTime",
)
TARGET = "ArrDelay"

_COLUMNS = ("Year", *FEATURES, TARGET)
_CSV_COLUMNS = (*(name for name in _COLUMNS if name != "PlaneAge"), "TailNum")
_FIRST_PLANE_YEAR = 1903
_CHUNK_ROWS = 500_000


@dataclasses.dataclass(frozen=True, eq=False)
class FlightTable:
    """Flights without missing values, in the order of their dates.

    Attributes:
      x: Attributes in the order of `FEATURES`, float32 `(n, 8)`.
      y: Arrival delays in minutes, float32 `(n,)`.
      year: Years of the flights, int32 `(n,)`.
      num_dropped: Number of rows dropped because an attribute or the delay was missing.
    """

    x: np.ndarray
    y: np.ndarray
    year: np.ndarray
    num_dropped: int


def read_composite(path: pathlib.Path) -> FlightTable:
    """Reads a Parquet table with the columns Year, ArrDelay and those of `FEATURES`.

    Raises:
      ValueError: If the file is not a Parquet file, lacks a column, or has no complete row.
    """
    with _named_errors(path, "Parquet table"):
        columns = pyarrow.parquet.read_schema(path).names
    _check_columns(path, columns, _COLUMNS)
    with _named_errors(path, "Parquet table of numbers"):
        rows = pd.read_parquet(path, columns=list(_COLUMNS)).to_numpy(np.float32, na_value=np.nan)
    return _table(path, [rows], num_read=len(rows))


def read_data_expo(flights: pathlib.Path, planes: pathlib.Path) -> FlightTable:
    """Reads one year of the ASA Data Expo 2009; PlaneAge is Year minus the aircraft's year.

    Args:
      flights: The CSV file of that year, plain or compressed with bzip2.
      planes: The CSV file with the columns `tailnum` and `year`, plain or compressed with bzip2.

    Raises:
      ValueError: If a file is damaged or lacks a column, or no row is complete.
    """
    plane_years = _read_plane_years(planes)
    num_read, blocks = 0, []
    for chunk in _csv_chunks(flights):
        num_read += len(chunk)
        age = chunk["Year"] - chunk["TailNum"].map(plane_years).astype(np.float32)
        # A tail number that was reused gives a plane that is younger than the flight.
        rows = chunk.assign(PlaneAge=age.where(age >= 0))[list(_COLUMNS)].to_numpy(np.float32)
        blocks.append(rows[np.isfinite(rows).all(axis=1)])
    return _table(flights, blocks, num_read)


def _read_plane_years(path: pathlib.Path) -> pd.Series:
    with _named_errors(path, "CSV file"), _open(path) as file:
        frame = pd.read_csv(file, dtype=str, encoding="latin-1")
    _check_columns(path, frame.columns, ("tailnum", "year"))
    years = pd.to_numeric(frame["year"], errors="coerce")  # the file contains "None" and "0000"
    years = years.where(years >= _FIRST_PLANE_YEAR)
    return pd.Series(years.to_numpy(), index=frame["tailnum"]).groupby(level=0).first()


def _csv_chunks(path: pathlib.Path) -> Iterator[pd.DataFrame]:
    with _named_errors(path, "CSV file"), _open(path) as file:
        columns = pd.read_csv(file, nrows=0, encoding="latin-1").columns
    _check_columns(path, columns, _CSV_COLUMNS)
    types = dict.fromkeys(_CSV_COLUMNS, np.float32) | {"TailNum": str}
    # TFDS' progress bar, so that `tfds.disable_progress_bar` applies.
    bar = tfds.core.utils.tqdm(desc=f"Reading {path.name}", unit=" rows", unit_scale=True, leave=False)
    with _named_errors(path, "CSV file of flights"), _open(path) as file, bar:
        for chunk in pd.read_csv(file, usecols=_CSV_COLUMNS, dtype=types, chunksize=_CHUNK_ROWS, encoding="latin-1"):
            yield chunk
            bar.update(len(chunk))


def _open(path: pathlib.Path) -> BinaryIO:
    # Recognized by its content, because TFDS renames downloads.
    with path.open("rb") as file:
        compressed = file.read(3) == b"BZh"
    return bz2.open(path) if compressed else path.open("rb")


@contextlib.contextmanager
def _named_errors(path: pathlib.Path, wanted: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, EOFError, OSError, pyarrow.ArrowException) as error:
        raise ValueError(f"{path} is not a readable {wanted}: {error}") from None


def _check_columns(path: pathlib.Path, present: object, wanted: tuple[str, ...]) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; wanted {list(wanted)}.")


def _table(path: pathlib.Path, blocks: list[np.ndarray], num_read: int) -> FlightTable:
    rows = np.concatenate(blocks) if blocks else np.empty((0, len(_COLUMNS)), np.float32)
    complete = np.flatnonzero(np.isfinite(rows).all(axis=1))
    if not complete.size:
        raise ValueError(f"{path} has no row with all of {list(_COLUMNS)}; wanted at least one complete row.")
    year, month, day = rows[complete, :3].T
    order = complete[np.lexsort((day, month, year))]  # stable, so flights of the same day keep their order
    return FlightTable(
        x=np.take(rows[:, 1:-1], order, axis=0),
        y=rows[order, -1],
        year=rows[order, 0].astype(np.int32),
        num_dropped=num_read - len(order),
    )
