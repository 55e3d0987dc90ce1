"""`read_table` and `read_rows`: tables of any kind of column, from `.csv` and `.parquet` files."""

import io
import os
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from tfp_hybrid.tables import Category, Columns, frames
from tfp_hybrid.tables.kinds import is_text
from tfp_hybrid.tables.targets import Target

# zipfile (which raises RuntimeError for a password), numpy, pandas and pyarrow raise these for damaged files.
DAMAGED = (
    *(ValueError, OSError, EOFError, RuntimeError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error, pa.ArrowException),
)
SUFFIXES = (".csv", ".parquet")
_MOST_STRAY = 0.1


def is_table(name: str | os.PathLike) -> bool:
    """Returns whether a name is the path of a table rather than the name of a data set."""
    return pathlib.Path(name).suffix in SUFFIXES


def read_table(path: os.PathLike, text: Collection[str] = ()) -> pd.DataFrame:
    """Reads a table with a name for each column.

    Args:
      path: A `.csv` file, UTF-8 with a line of names, or a `.parquet` file.
      text: Names of columns of a `.csv` file that stay text even if all values look like numbers.

    Raises:
      ValueError: If the file cannot be read, has no rows or no columns, a column has no name, two have the same name,
        or a row has more values than there are names.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"The file {path} does not exist.")
    try:
        frame = read_csv(path, text) if path.suffix == ".csv" else read_parquet(path)
    except DAMAGED as error:
        raise unreadable(path, error) from None
    names = frames.column_names(frame, path)
    if not names:
        raise ValueError(f"{path} has no columns; wanted at least one.")
    for place, name in enumerate(names):
        if not name.strip():
            raise ValueError(
                f"{path}: the column {place} has no name; wanted a name for each. (A table that pandas wrote has its "
                "row numbers there; write it with index=False.)"
            )
    if not len(frame):
        raise ValueError(f"{path} has no rows; wanted at least one below the names.")
    return frame.set_axis(list(names), axis=1).reset_index(drop=True)


def read_rows(path: os.PathLike, columns: Columns, target: Target | None = None) -> tuple[np.ndarray, pd.Series | None]:
    """Reads the rows of a table for a model that was trained on one like it.

    Args:
      path: A `.csv` or `.parquet` file with the columns of the model, in any order.
      columns: The `Columns` of the model.
      target: The response, which may be in the table, too; or None.

    Returns:
      The rows x, `(n, d)`, as `Columns.to_array` makes them; and the column of the response, None if there is none.

    Raises:
      ValueError: If the file cannot be read, a column is missing or unknown, or a value is of another kind.
    """
    frame = read_table(path, text_columns(columns, target))
    y = frame.pop(target.name) if target is not None and target.name in frame else None
    return columns.to_array(frame, str(path)), y


def text_columns(
    columns: Columns | None, target: Target | None, side_inputs: Mapping[str, tf.TensorSpec] | None = None
) -> list[str]:
    """Returns the names of columns that stay text even if all values in a file look like numbers.

    Args:
      columns: The `Columns` of a model, or None.
      target: The response, or None.
      side_inputs: The side inputs of the model; those that are strings stay text.
    """
    text = [] if columns is None else [column.name for column in columns.columns if _is_of_text(column.kind)]
    text += [name for name, spec in (side_inputs or {}).items() if spec.dtype == tf.string]
    return text + ([target.name] if target is not None and target.is_text else [])


def check_stray_text(frame: pd.DataFrame, path: os.PathLike):
    """Raises ValueError for columns of numbers in which a few rows hold text, such as "unknown".

    A `.csv` file does not say what its columns hold, so such a column would become one of categories.
    """
    for name, column in frame.items():
        known = column[column.notna()]
        if not len(known) or not known.map(lambda value: isinstance(value, str)).all():
            continue
        stray = pd.to_numeric(known, errors="coerce").isna().to_numpy()
        if 0 < stray.mean() <= _MOST_STRAY:
            row = int(known.index[stray.argmax()])
            raise ValueError(
                f"{path}: the column {name!r} holds numbers, but text in {stray.sum():,} of {len(known):,} rows, such "
                f"as {column[row]!r} in row {row}; wanted one of them. Leave the cell empty if the number is not "
                f"known, or use --category {name} if they are codes."
            )


def read_csv(source: pathlib.Path | bytes, text: Collection[str] = ()) -> pd.DataFrame:
    """Reads a `.csv` file, or the content of one; columns of the names `text` stay text."""
    names = csv_names(source)  # read separately, because pandas would rename a second `a` to `a.1`
    try:
        types = {name: str for name in text}
        table = pd.read_csv(_opened(source), index_col=False, low_memory=False, dtype=types)
    except pd.errors.ParserError as error:  # without `index_col=False`, longer rows would turn a column into the index
        raise ValueError(f"a row has more values than there are names. {error}") from None
    for name in table.columns.difference(list(text)):
        if is_text(table[name]) and (table[name] == "").any():  # pandas has given up on an integer that is too large
            table[name] = _without_blanks(table[name])
    return table.set_axis(names, axis=1)


def csv_names(source: pathlib.Path | bytes) -> list[str]:
    """Returns the names of the columns of a `.csv` file, or of the content of one."""
    try:
        first = pd.read_csv(_opened(source), header=None, nrows=2, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        raise ValueError("it is empty; wanted a line of names and rows below it.") from None
    except pd.errors.ParserError as error:
        raise ValueError(f"a row has more values than there are names. {error}") from None
    return first.iloc[0].tolist()


def _opened(source):
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _without_blanks(column):
    """Returns the column with holes in place of blanks, as numbers if all others are."""
    column = column.mask(column == "")
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if (numbers.isna() == column.isna()).all() else column


def read_parquet(path: pathlib.Path) -> pd.DataFrame:
    """Reads a `.parquet` file."""
    frames.check_once(pq.read_schema(path).names, path.name)  # pandas' own error is unclear
    return pd.read_parquet(path)


def unreadable(path: pathlib.Path, error: Exception) -> ValueError:
    """Returns the error for a file that cannot be read, for one of the reasons `DAMAGED`."""
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start]
        return ValueError(
            f"{path} cannot be read: it is not UTF-8 text, as it has a byte 0x{byte:02x}. Save it as UTF-8."
        )
    return ValueError(f"{path} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}")


def _is_of_text(kind):
    return isinstance(kind, Category) and all(isinstance(level, str) for level in kind.levels)
