"""Reading inputs of a model from a file: `.npz`, `.csv` or `.parquet`."""

import os
import pathlib
import re
import tokenize
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tfp_hybrid.commands.archives import open_archive
from tfp_hybrid.models import HybridModel, checks, frames

# What zipfile (RuntimeError: a password), numpy, pandas and pyarrow raise on damaged files.
_DAMAGED = (
    *(ValueError, OSError, EOFError, RuntimeError, SyntaxError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error, pa.ArrowException),
)


def read_inputs(path: os.PathLike, model: HybridModel, feature_names=None) -> np.ndarray:
    """Inputs from a file, one row each.

    Args:
      path: `.npz` with the array `x` (or a single array); `.csv` or `.parquet` with a column for each feature, by
        name where the model knows names, else in order (images: row by row). Columns are numbers; a boolean is 0
        or 1.
      model: the model they are for.
      feature_names: names of the columns, or None; for a model that has no `feature_names` itself.

    Returns:
      x, `(n, *event_shape)`.

    Raises:
      ValueError: if the file cannot be read; if it lacks columns, has one twice, has more values in a row than names,
        or numbers its columns in another order than the model's; or if it holds inputs that the model cannot take.
    """
    path = pathlib.Path(path)
    shape = tuple(model.distribution.event_shape)
    readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise ValueError(f"{path} ends in {path.suffix!r}; wanted one of {', '.join(readers)}.")
    if not path.is_file():
        raise ValueError(f"There is no file {path}.")
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
            raise ValueError(f"{path} has {x.shape[1]} columns; wanted {np.prod(shape)}, for inputs {shape}.")
        x = frames.to_array(x, names, path).reshape(-1, *shape)
    checks.check_inputs(x, model.distribution, f"{path.name}: x")
    return x


def _read_npz(path, shape):
    """The array, whose header is looked at first: neither it nor the archive may claim more than there is."""
    with open_archive(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "x" not in names and len(names) != 1:
            raise ValueError(f"it holds the arrays {names}; wanted one named 'x'.")
        member = archive.infolist()[names.index("x") if "x" in names else 0]
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            if version not in header:
                raise ValueError(f"its array is of version {version} of the format; wanted one of numbers.")
            size, _, dtype = header[version](file)
            if dtype.kind not in "biuf":
                raise ValueError(f"its array has dtype {dtype}; wanted numbers.")
            if size[1:] != shape:
                raise ValueError(f"its array has shape {size}; wanted {('n', *shape)}.")
            claimed, there = int(np.prod(size, dtype=object)) * dtype.itemsize, member.file_size - file.tell()
            if claimed != there:
                raise ValueError(f"its array of shape {size} would have {claimed:,} bytes; {there:,} are there.")
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def _read_csv(path, shape):
    try:  # the names as they stand there: pandas would rename the second `a` to `a.1`
        first = pd.read_csv(path, header=None, nrows=2, dtype=str, keep_default_na=False)
        table = pd.read_csv(path, index_col=False)
    except pd.errors.ParserError as error:  # of longer rows, pandas would make the first column an index
        raise ValueError(f"a row has more values than there are names. {error}") from None
    return table.set_axis(first.iloc[0].tolist(), axis=1)


def _read_parquet(path, shape):
    frames.check_once(pq.read_schema(path).names, path.name)  # pandas' own error does not tell what is wrong
    return pd.read_parquet(path)


def _check_order(header, path):
    """Raises ValueError for names that are not in the order of their numbers, which a model without names needs."""
    if all(map(_is_number, header)):
        if header != tuple(map(str, range(len(header)))):
            raise ValueError(
                f"{path} has numbers for column names, such as {header[0]}; wanted a line of names, or 0, 1, ... in "
                "order."
            )
        return
    places = [[int(number) for number in re.findall(r"\d+", name)] for name in header]
    if len({re.sub(r"\d+", "0", name) for name in header}) == 1 and places != sorted(places):
        raise ValueError(
            f"{path} has numbered columns out of order, {', '.join(header[:4])}{', ...' * (len(header) > 4)}, and the "
            "model knows no names to put them in order by; wanted them in order, or `model.feature_names`."
        )


def _is_number(name):
    try:
        float(name)
    except ValueError:
        return False
    return True
