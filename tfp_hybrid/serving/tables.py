"""Tables of any kind: DataFrames, Arrow tables and batches, and dicts of arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from tfp_hybrid.tables import frames


def names(table) -> list[str]:
    """Returns the names of the columns of a table.

    Raises:
      ValueError: If it is not a table.
    """
    if isinstance(table, Mapping):
        lengths = {name: len(np.atleast_1d(column)) for name, column in table.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"table has columns of {lengths} rows; wanted one number of rows.")
        return list(table)
    if isinstance(table, (pa.Table, pa.RecordBatch)):
        return table.schema.names
    return [str(name) for name in frames.as_frame(table, "table").columns]


def array(table, name: str, shape: Sequence[int | None]) -> np.ndarray | None:
    """Returns a column that holds whole inputs, `(n, *shape)`; None if it does not.

    That is an array of a dict of arrays, or a column of lists of an Arrow table, row by row.
    """
    if isinstance(table, Mapping):
        values = np.asarray(table[name])
        return values if values.ndim == 1 + len(shape) and values.ndim > 1 else None
    if isinstance(table, (pa.Table, pa.RecordBatch)) and None not in shape:
        column = table.column(name)
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        column = getattr(column, "storage", column)  # of an extension type, such as a tensor
        kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        if not column.null_count and any(kind(column.type) for kind in kinds):
            values = column.flatten()
            if len(values) != len(column) * np.prod(shape):
                raise ValueError(
                    f"table: the lists of the column {name!r} have {len(values):,} values in {len(column):,} rows; "
                    f"wanted {np.prod(shape)} in each, an input of shape {tuple(shape)} row by row."
                )
            return values.to_numpy(zero_copy_only=False).reshape(-1, *shape)
    return None


def frame(table, chosen: Sequence[str]) -> pd.DataFrame:
    """Returns columns of a table as a DataFrame."""
    if isinstance(table, Mapping):
        return pd.DataFrame({name: np.asarray(table[name]) for name in chosen})
    if isinstance(table, (pa.Table, pa.RecordBatch)):
        return table.select(list(chosen)).to_pandas()
    found = frames.as_frame(table, "table")
    present = frames.column_names(found, "table")
    return found.iloc[:, [present.index(name) for name in chosen]].set_axis(list(chosen), axis=1)


def like(table, kept: Sequence[str], columns: Mapping[str, np.ndarray]):
    """Returns a table of the kind of `table`: some of its columns, then other columns.

    A DataFrame keeps its index. What is of another library becomes a DataFrame of pandas.
    """
    if isinstance(table, Mapping):
        return {name: table[name] for name in kept} | dict(columns)
    if isinstance(table, (pa.Table, pa.RecordBatch)):
        arrays = [table.column(name) for name in kept] + [pa.array(column) for column in columns.values()]
        return type(table).from_arrays(arrays, names=[*kept, *columns])
    found = frame(table, kept)
    return pd.concat([found, pd.DataFrame(dict(columns), index=found.index)], axis=1)
