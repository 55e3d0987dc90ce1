"""`ParquetTable`: reads the rows of Parquet files block by block."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow
import pyarrow.parquet

_ROW = "row of the file"
_PAGE_BYTES, _OPEN_BYTES = 2**21, 2**29
"""Bytes of one column of an open row group, at most (its page and its dictionary); and limit for all of them."""


@dataclasses.dataclass(frozen=True)
class RowGroup:
    """A row group of a file.

    Attributes:
      path: Path of the file.
      number: Index of the row group in the file.
      first_row: Index of its first row in the file.
      rows: Number of its rows that satisfy the condition.
    """

    path: str
    number: int
    first_row: int
    rows: int


@dataclasses.dataclass(frozen=True, eq=False)
class ParquetTable:
    """The rows of Parquet files with the same columns.

    Attributes:
      files: Metadata of each file, by its path.
      features: Names of the columns of x.
      response: Name of the column of y.
      response_dtype: Dtype of y.
      condition: Condition on the rows to keep, or None.
      condition_columns: Names of the columns in the condition.
    """

    files: dict[str, pyarrow.parquet.FileMetaData]
    features: tuple[str, ...]
    response: str
    response_dtype: type
    condition: pyarrow.compute.Expression | None
    condition_columns: tuple[str, ...]

    @classmethod
    def open(cls, paths: list[str], features: tuple[str, ...], response: str, filters: list | None) -> ParquetTable:
        """Opens the files; raises ValueError if they lack a column or a column is not numeric."""
        condition_columns = _columns_of(filters)
        files, integer = {}, {}
        for path in paths:
            files[path] = _metadata(path)
            types = _check_columns(path, files[path].schema.to_arrow_schema(), (*features, response), condition_columns)
            integer[path] = pyarrow.types.is_integer(types[response]) or pyarrow.types.is_boolean(types[response])
        if len(set(integer.values())) > 1:
            whole, real = (next(path for path in paths if integer[path] == kind) for kind in (True, False))
            raise ValueError(
                f"The column {response!r} has integers in {whole} but real numbers in {real}; wanted the same type in "
                "all files."
            )
        condition = pyarrow.parquet.filters_to_expression(filters) if filters else None
        dtype = np.int64 if integer[paths[0]] else np.float32
        table = cls(files, features, response, dtype, condition, condition_columns)
        if not filters:
            table.check_null_counts()
        return table

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns to read, without duplicates."""
        return tuple(dict.fromkeys((*self.features, self.response, *self.condition_columns)))

    def row_groups_at_a_time(self, most: int) -> int:
        """Returns how many row groups, at most `most`, can be open while their pages fit into `_OPEN_BYTES`."""
        sizes = {}
        for path, number, column in self._column_chunks():
            group = path, number
            sizes[group] = sizes.get(group, 0) + min(2 * column.total_uncompressed_size, _PAGE_BYTES)
        return max(1, min(most, _OPEN_BYTES // max(sizes.values(), default=1)))

    def row_groups(self, size: int) -> list[RowGroup]:
        """Returns the row groups with at least one row that satisfies the condition.

        Args:
          size: Number of rows to read at a time.
        """
        groups = []
        for path, metadata in self.files.items():
            first_row = 0
            for number in range(metadata.num_row_groups):
                rows = metadata.row_group(number).num_rows
                group = RowGroup(path, number, first_row, rows)
                first_row += rows
                if self.condition is not None:
                    tables = self._tables(group, size, self.condition_columns)
                    group = dataclasses.replace(group, rows=sum(table.num_rows for table in tables))
                if group.rows:
                    groups.append(group)
        return groups

    def blocks(self, group: RowGroup, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields blocks of x, float32 `(n, d)`, and y, `(n,)`, with 1 to `size` rows each."""
        for table in filter(len, self._tables(group, size, self.columns)):
            x = np.empty((table.num_rows, len(self.features)), np.float32)
            for i, name in enumerate(self.features):
                x[:, i] = _numbers(table, name, np.float32)
            y = _numbers(table, self.response, self.response_dtype)
            if not (np.isfinite(x).all() and np.isfinite(y).all()):
                raise ValueError(_describe_bad_value(table, group.path, (*self.features, self.response)))
            yield x, y

    def _tables(self, group: RowGroup, size: int, columns: tuple[str, ...]) -> Iterator[pyarrow.Table]:
        """Yields the rows that satisfy the condition, with a column for their index in the file."""
        try:
            yield from self._read(group, size, columns)
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{group.path} cannot be read: {error}") from error

    def _read(self, group, size, columns):
        row = group.first_row
        # By default, pyarrow keeps a whole row group in memory.
        bounded = dict(pre_buffer=False, buffer_size=2**16)
        with pyarrow.parquet.ParquetFile(group.path, metadata=self.files[group.path], **bounded) as file:
            options = dict(columns=list(columns), row_groups=[group.number], use_threads=False)
            for batch in file.iter_batches(size, **options):
                rows = pyarrow.array(np.arange(row, row + batch.num_rows))
                row += batch.num_rows
                table = pyarrow.Table.from_batches([batch]).append_column(_ROW, rows)
                yield table if self.condition is None else table.filter(self.condition)

    def _column_chunks(self) -> Iterator[tuple[str, int, pyarrow.parquet.ColumnChunkMetaData]]:
        """Yields the path, the index of the row group and the metadata of each column in each row group."""
        for path, metadata in self.files.items():
            indices = [i for i, name in enumerate(_leaves(metadata)) if name in self.columns]
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                for i in indices:
                    yield path, number, group.column(i)

    def check_null_counts(self):
        """Raises ValueError if the files' statistics report missing values."""
        for path, number, column in self._column_chunks():
            if column.statistics is not None and column.statistics.null_count:
                raise ValueError(
                    f"The column {column.path_in_schema!r} of {path} has {column.statistics.null_count} missing values "
                    f"in row group {number}. Fill them, or exclude such rows with `filters`."
                )


def _leaves(metadata: pyarrow.parquet.FileMetaData) -> list[str]:
    return [metadata.schema.column(i).path for i in range(metadata.num_columns)]


def _metadata(path: str) -> pyarrow.parquet.FileMetaData:
    try:
        return pyarrow.parquet.read_metadata(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from None


def _columns_of(filters: list | None) -> tuple[str, ...]:
    if not isinstance(filters, list | None):
        raise ValueError(
            f"filters is {filters!r}; wanted a list of conditions (column, operation, value), or of such lists."
        )
    conjunctions = filters if filters and isinstance(filters[0], list) else [filters or []]
    return tuple(dict.fromkeys(name for conditions in conjunctions for name, _, _ in conditions))


def _check_columns(path, schema, numeric, others) -> dict[str, pyarrow.DataType]:
    types = dict(zip(schema.names, schema.types, strict=True))
    missing = [name for name in (*numeric, *others) if name not in types]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {', '.join(types)}.")
    for name in numeric:
        kinds = pyarrow.types
        tests = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_decimal)
        if not any(test(types[name]) for test in tests):
            raise ValueError(f"The column {name!r} of {path} has the type {types[name]}; wanted numbers.")
    return types


def _numbers(table: pyarrow.Table, name: str, dtype: type) -> np.ndarray:
    """Returns a column as an array, with NaN for missing values."""
    return np.asarray(table.column(name).cast(pyarrow.from_numpy_dtype(dtype), safe=False))


def _describe_bad_value(table, path, names) -> str:
    bad = {name: np.flatnonzero(~np.isfinite(_numbers(table, name, np.float32))) for name in names}
    name, rows = next((name, rows) for name, rows in bad.items() if rows.size)
    row, value = (table.column(column)[int(rows[0])] for column in (_ROW, name))
    return f"The column {name!r} of {path} holds {value} in row {row}; wanted finite numbers."
