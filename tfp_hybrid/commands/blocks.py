"""`Block`: a part of a table in files, which is read on its own; a file of any size is a list of them."""

import dataclasses
import pathlib
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow.parquet as pq

from tfp_hybrid.commands import table_files

ROWS = 2**20
"""Rows of a block of a Parquet file, about; a row group is part of one block or divided into several."""
BYTES = 2**24
"""Bytes of a block of a csv file, about."""
_QUOTE, _NEWLINE, _BOM = ord('"'), ord("\n"), b"\xef\xbb\xbf"


@dataclasses.dataclass(frozen=True)
class Block:
    """Consecutive rows of a file.

    Attributes:
      path: The file.
      first_row: The number of the first row in the file.
      rows: The number of rows; of a csv file, blank lines included.
    """

    path: pathlib.Path
    first_row: int
    rows: int

    def read(self, rows: int, columns: Sequence[str] | None, text: Collection[str]) -> Iterator[tuple[int, object]]:
        """Yields the rows in parts.

        Args:
          rows: The number of rows in a part, about.
          columns: The names of the columns to read; all if None.
          text: Names of columns of a csv file that stay text even if all values look like numbers.

        Returns:
          Pairs of the number of the first row, and an Arrow or pandas table.
        """
        raise NotImplementedError(f"{type(self).__name__}.read")


@dataclasses.dataclass(frozen=True)
class ParquetBlock(Block):
    """Row groups of a Parquet file, or a part of one.

    Attributes:
      groups: The numbers of the row groups.
      skip: The number of rows of the first row group that are before this block.
    """

    groups: tuple[int, ...]
    skip: int = 0

    def read(self, rows, columns, text):
        """As `Block.read`; each part is of one row group."""
        row, left = self.first_row, self.rows
        # By default, pyarrow keeps a whole row group in memory.
        with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=2**16) as file:
            for group in self.groups:
                skip = self.skip
                for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                    part = batch.slice(min(skip, len(batch)), left)
                    skip -= len(batch) - len(batch.slice(min(skip, len(batch))))
                    if len(part):
                        yield row, part
                    row, left = row + len(part), left - len(part)
                    if not left:
                        return


@dataclasses.dataclass(frozen=True)
class CsvBlock(Block):
    """Consecutive lines of a csv file.

    Attributes:
      header: The number of bytes up to the end of the line of names.
      start: The place of the first byte.
      stop: The place after the last byte.
    """

    header: int
    start: int
    stop: int

    def read(self, rows, columns, text):
        """As `Block.read`, in one part."""
        with open(self.path, "rb") as file:
            names = file.read(self.header)
            file.seek(self.start)
            frame = table_files.read_csv(names + file.read(self.stop - self.start), text)
        if len(frame):
            yield self.first_row, frame if columns is None else frame[list(columns)]


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the tables at a path: the file itself, or those in a folder, in the order of their names.

    Raises:
      ValueError: If there are none, or both .csv and .parquet files.
    """
    if path.is_file() and path.suffix in table_files.SUFFIXES:
        return [path]
    if not path.is_dir():
        raise ValueError(f"{path} is not a table; wanted a .csv or .parquet file, or a folder of them.")
    hidden = (".", "_")  # as in Spark
    found = sorted(p for p in path.iterdir() if p.suffix in table_files.SUFFIXES and not p.name.startswith(hidden))
    suffixes = sorted({file.suffix for file in found})
    if len(suffixes) != 1:
        raise ValueError(f"{path} has {' and '.join(suffixes) or 'no'} files; wanted .csv or .parquet files.")
    return found


def names_in(path: pathlib.Path) -> list[str]:
    """Returns the names of the columns of a file, without reading its rows."""
    if path.suffix == ".csv":
        return table_files.csv_names(path)
    return pq.read_schema(path).names


def blocks_of(files: Sequence[pathlib.Path], shard: tuple[int, int] = (0, 1)) -> list[Block]:
    """Returns the blocks of files of one kind, in order.

    Args:
      files: The files, from `files_of`.
      shard: Index and number of shards, `(i, n)`: the i-th of n runs of consecutive row groups, or of blocks of csv
        files. All shards together are all rows, and their blocks are read in the same parts as in one shard.
    """
    if files[0].suffix == ".csv":
        return list(_shard_of([block for file in files for block in _csv_blocks(file)], shard))
    sizes = {file: _row_group_sizes(file) for file in files}
    chosen = _shard_of([(file, group) for file in files for group in range(len(sizes[file]))], shard)
    return [
        block for file in files for block in _parquet_blocks(file, [g for f, g in chosen if f == file], sizes[file])
    ]


def _shard_of(items, shard):
    index, count = shard
    return items[len(items) * index // count : len(items) * (index + 1) // count]


def _row_group_sizes(path):
    metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _parquet_blocks(path, groups, sizes):
    """Returns blocks of about `ROWS` rows, of whole row groups or from multiples of `ROWS` in one."""
    firsts = np.cumsum([0, *sizes]).tolist()
    found, together = [], []

    def close():
        if together:
            first, last = firsts[together[0]], firsts[together[-1] + 1]
            found.append(ParquetBlock(path, first, last - first, tuple(together)))
            together.clear()

    for group in groups:
        if together and firsts[group + 1] - firsts[together[0]] > ROWS:
            close()
        if sizes[group] > ROWS:
            for skip in range(0, sizes[group], ROWS):
                rows = min(ROWS, sizes[group] - skip)
                found.append(ParquetBlock(path, firsts[group] + skip, rows, (group,), skip))
        elif sizes[group]:
            together.append(group)
    close()
    return found


def _csv_blocks(path):
    """Returns blocks of about `BYTES` bytes, which end at the ends of lines outside of quotes."""
    found, header, first_row, quotes = [], None, 0, 0
    start, place = 0, 0  # of the block and of the chunk
    with open(path, "rb") as file:
        while chunk := file.read(BYTES):
            ends, quotes = _line_ends(chunk, quotes)
            ends = ends + place
            place += len(chunk)
            if header is None:
                head = next((end for end in ends if chunk[:end].removeprefix(_BOM).strip()), None)
                if head is None:
                    continue
                header = start = int(head)
                ends = ends[ends > header]
            if len(ends):
                found.append(CsvBlock(path, first_row, len(ends), header, start, int(ends[-1])))
                first_row, start = first_row + len(ends), int(ends[-1])
    if header is not None and quotes % 2:  # a quote without a partner: where lines end is up to the parser
        return [CsvBlock(path, 0, first_row, header, header, place)]
    if header is not None and start < place:  # the last line does not end
        found.append(CsvBlock(path, first_row, 1, header, start, place))
    return found


def _line_ends(chunk, quotes):
    """Returns the places after each newline outside of quotes, and the number of quotes until the end."""
    data = np.frombuffer(chunk, np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    places = np.flatnonzero(data == _QUOTE)
    outside = (quotes + np.searchsorted(places, ends)) % 2 == 0
    return ends[outside] + 1, quotes + len(places)
