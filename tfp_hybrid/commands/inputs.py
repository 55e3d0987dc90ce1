"""`read_inputs`: reads a model's inputs from a `.npz`, `.csv` or `.parquet` file."""

import os
import pathlib
import re
import tokenize
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfp_hybrid.commands.archives import open_archive
from tfp_hybrid.models import HybridModel, checks
from tfp_hybrid.tables import frames

# zipfile (which raises RuntimeError for a password), numpy, pandas and pyarrow raise these for damaged files.
_DAMAGED = (
    *(ValueError, OSError, EOFError, RuntimeError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error, pa.ArrowException),
)


def read_inputs(path: os.PathLike, model: HybridModel, feature_names: Sequence[str] | None = None) -> np.ndarray:
    """Reads inputs from a file.

    Args:
      path: A `.npz` file with the array `x` (or a single array), or a `.csv` or `.parquet` file with a numeric column
        for each feature. Columns are matched by name if the names are known; otherwise they must be in order (for
        images, row by row). Booleans become 0 and 1.
      model: The model for which the inputs are read.
      feature_names: Names of the columns, for a model whose own `feature_names` are None.

    Returns:
      The inputs x, `(n, *event_shape)`.

    Raises:
      ValueError: If the file cannot be read; if a column is missing or duplicated, a row has more values than there
        are names, or numbered columns are out of order; or if the model cannot take the inputs.
    """
    path = pathlib.Path(path)
    shape = tuple(model.distribution.event_shape)
    readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ValueError(f"{path} ends in {path.suffix!r}; wanted one of {', '.join(readers)}.")
    if not path.is_file():
        raise ValueError(f"The file {path} does not exist.")
    try:
        x = readers[path.suffix](path, shape)
    except _DAMAGED as error:
        raise ValueError(f"{path} cannot be read: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    if isinstance(x, pd.DataFrame):
        names, header = model.feature_names or feature_names, tuple(map(str, x))
        if not names:
            _check_order(header, path)
            frames.check_once(header, path)
        if not names and x.shape[1] != np.prod(shape):
            raise ValueError(f"{path} has {x.shape[1]} columns; wanted {np.prod(shape)} for inputs of shape {shape}.")
        x = frames.to_array(x, names, path).reshape(-1, *shape)
    checks.check_inputs(x, model.distribution, f"{path.name}: x")
    return x


def _read_npz(path, shape):
    """Reads the array after checking that its header and the archive do not claim more data than the file has."""
    with open_archive(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "x" not in names and len(names) != 1:
            raise ValueError(f"it has the arrays {names}; wanted one named 'x'.")
        member = archive.infolist()[names.index("x") if "x" in names else 0]
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in header:
                raise ValueError(f"its array has the format version {version}; wanted 1.0 or 2.0.")
            size, _, dtype = header[version](file)
            if dtype.kind not in "biuf":
                raise ValueError(f"its array has dtype {dtype}; wanted numbers.")
            if size[1:] != shape:
                raise ValueError(f"its array has shape {size}; wanted {('n', *shape)}.")
            claimed, available = int(np.prod(size, dtype=object)) * dtype.itemsize, member.file_size - file.tell()
            if claimed != available:
                raise ValueError(f"its array of shape {size} needs {claimed:,} bytes, but the file has {available:,}.")
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _read_csv(path, shape):
    try:  # the names are read separately, because pandas would rename a second `a` to `a.1`
        first = pd.read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False)
        table = pd.read_csv(path, index_col=False)
    except pd.errors.ParserError as error:  # without `index_col=False`, longer rows would turn a column into the index
        raise ValueError(f"a row has more values than there are names. {error}") from None
    return table.set_axis(first.iloc[0].tolist(), axis=1)


def _read_parquet(path, shape):
    frames.check_once(pq.read_schema(path).names, path.name)  # pandas' own error is unclear
    return pd.read_parquet(path)


def _check_order(header, path):
    """Raises ValueError for numbered columns out of order, since a model without names takes columns by position."""
    if all(map(_is_number, header)):
        if header != tuple(map(str, range(len(header)))):
            raise ValueError(
                f"{path} has numbers as column names, such as {header[0]}; wanted a header with names, or with 0, 1, "
                "... in order."
            )
        return
    places = [[int(number) for number in re.findall(r"\d+", name)] for name in header]
    if len({re.sub(r"\d+", "0", name) for name in header}) == 1 and places != sorted(places):
        raise ValueError(
            f"{path} has numbered columns out of order, {', '.join(header[:4])}{', ...' * (len(header) > 4)}, and the "
            "model has no feature names to match them by. Sort the columns, or set `model.feature_names`."
        )


def _is_number(name):
    try:
        float(name)
    except ValueError:
        return False
    return True
