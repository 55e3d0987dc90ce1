"""`read_inputs`: reads a model's inputs from a `.npz`, `.csv` or `.parquet` file."""

import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfp_hybrid.archives import open_archive
from tfp_hybrid.commands import table_files
from tfp_hybrid.models import HybridModel, checks, input_spec
from tfp_hybrid.tables import frames
from tfp_hybrid.tables.targets import Target


def read_inputs(
    path: os.PathLike, model: HybridModel, feature_names: Sequence[str] | None = None, target: Target | None = None
) -> np.ndarray:
    """Reads inputs from a file.

    Args:
      path: A `.npz` file with the array `x` (or a single array), or a `.csv` or `.parquet` file with a numeric column
        for each feature. Columns are matched by name if the names are known; otherwise they must be in order (for
        images, row by row). Booleans become 0 and 1. For a model of `tables.Columns`, the columns hold what they held
        in training, and other columns are an error.
      model: The model for which the inputs are read, of x alone.
      feature_names: Names of the columns, for a model whose own `feature_names` are None.
      target: The response of a model of `tables.Columns`, a column that may be there and is not read.

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
    columns = input_spec.of_distribution(model.distribution).columns
    if columns is not None and table_files.is_table(path):
        return table_files.read_rows(path, columns, target)[0]
    try:
        x = readers[path.suffix](path, shape)
    except table_files.DAMAGED as error:
        raise table_files.unreadable(path, error) from None
    if isinstance(x, pd.DataFrame):
        names, header = model.feature_names or feature_names, tuple(map(str, x))
        if not names:
            check_order(header, path)
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
    return table_files.read_csv(path)


def _read_parquet(path, shape):
    return table_files.read_parquet(path)


def check_order(header: Sequence[str], path: os.PathLike):
    """Raises ValueError for numbered columns out of order, since a model without names takes columns by position."""
    if all(map(_is_number, header)):
        if tuple(header) != tuple(map(str, range(len(header)))):
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
