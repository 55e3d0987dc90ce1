"""`score_file`: scores a table of any size, in parts, so that a killed run resumes."""

import collections
import concurrent.futures
import contextlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import tfp_hybrid
from tfp_hybrid import files, strict_json
from tfp_hybrid.commands import blocks, inputs, table_files
from tfp_hybrid.commands.progress import bar
from tfp_hybrid.models import side_inputs
from tfp_hybrid.serving import Scorer
from tfp_hybrid.tables import frames

_JOB = "job.json"
_VALUES = 2**19  # in memory at a time
_END = object()


def score_file(
    model: str | os.PathLike,
    file: str | os.PathLike,
    out: str | os.PathLike,
    *,
    abstain_below: float | None = None,
    keep: Sequence[str] = (),
    shard: tuple[int, int] | None = None,
) -> tuple[pathlib.Path, int]:
    """Scores the rows of a table of any size, in memory that does not grow with it.

    Finished parts are kept in the folder `.parts_NAME` beside `out` until all are there. The same call resumes a killed
    one, and the file is then the same as that of an unbroken one, byte for byte.

    Args:
      model: Folder of a run, or file of a saved model or rejector.
      file: A `.csv` or `.parquet` file, or a folder of them, with the columns that `serving.Scorer` takes.
      out: A `.parquet` file to write. For a shard, its number is added to the name: shard (3, 64) of `scores.parquet`
        is `scores-00003-of-00064.parquet`.
      abstain_below: Percentile of the held-out rows, 0 to 100, below which to abstain; None uses the rejector's
        threshold.
      keep: Names of columns that are copied to `out`.
      shard: Index and number of shards, `(i, n)`, i from 0 to n - 1: scores the i-th of n runs of consecutive row
        groups, or of blocks of 16 MB of csv files. None scores all. The shards in their order have the rows of one run.

    Returns:
      The path of the file that was written, whose columns are `keep` and those of `serving.Scorer`; and the number of
      its rows, which are in the order of the input.

    Raises:
      ValueError: If an argument is invalid, a file cannot be read, the model cannot take a row, or the parts of another
        run are beside `out`.
      OSError: If a file cannot be written.
    """
    file, out = pathlib.Path(file), shard_path(out, shard)
    check_out(out)
    scorer = Scorer(model, abstain_below, keep)
    found = blocks.files_of(file)
    if out.resolve() in [path.resolve() for path in found] or out.resolve().parent == file.resolve():
        raise ValueError(f"--out {out} is among the tables to score, {file}; wanted another place.")
    columns = _columns_to_read(found, scorer)
    try:
        todo = blocks.blocks_of(found, shard or (0, 1))
    except table_files.DAMAGED as error:
        raise table_files.unreadable(file, error) from None
    if not todo and shard is None:
        raise ValueError(f"{file} has no rows; wanted at least one.")
    folder = out.with_name(f".parts_{out.name}")
    with files.locked(folder):
        _claim(folder, _job(scorer, found, shard, len(todo)))
        parts = [folder / f"{number:06d}.parquet" for number in range(max(len(todo), 1))]
        if todo:
            _write_parts(parts, todo, scorer, columns)
        else:
            _write_part(parts[0], [_empty(found[0], scorer)])
        rows = _join(parts, out)
        for part in (folder / _JOB, *parts):
            part.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # `locked` removes a folder that it made
        folder.rmdir()
    return out, rows


def shard_path(out: str | os.PathLike, shard: tuple[int, int] | None) -> pathlib.Path:
    """Returns the path to which a shard is written.

    Raises:
      ValueError: If the shard is not a pair (i, n) with 0 <= i < n.
    """
    out = pathlib.Path(out)
    if shard is None:
        return out
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"The shard is {index}/{count}; wanted one of 0/{count} to {count - 1}/{count}.")
    return out.with_name(f"{out.stem}-{index:05d}-of-{count:05d}{out.suffix}")


def check_out(out: pathlib.Path, suffixes: Sequence[str] = (".parquet",)):
    """Raises ValueError if a table cannot be written there."""
    if out.suffix not in suffixes:
        raise ValueError(f"--out {out} ends in {out.suffix!r}; wanted {' or '.join(suffixes)}.")
    if not out.parent.is_dir():
        raise ValueError(f"--out {out} cannot be written, because the folder {out.parent} does not exist.")
    files.check_writable(out.parent)


def _columns_to_read(found, scorer):
    """Returns the names of the columns to read, None for all; checks those that are in each file."""
    model, known = scorer.answers.model, scorer.feature_names
    side = tuple(model.side_inputs)
    for path in found:
        try:
            names = blocks.names_in(path)
        except table_files.DAMAGED as error:
            raise table_files.unreadable(path, error) from None
        frames.check_once(names, path)
        missing = [name for name in (*(known or ()), *side, *scorer.keep) if name not in names]
        if missing:
            raise ValueError(f"{path} lacks the columns {missing}; it has {names}.")
        if known is None:
            inputs.check_order([name for name in names if name not in (*side, *scorer.keep)], path)
    if known is None or model.inputs_spec.columns is not None:
        return None
    return list(dict.fromkeys((*known, *side, *scorer.keep)))


def _job(scorer, found, shard, count):
    """Returns what the rows of the parts depend on."""
    return {
        "version": tfp_hybrid.__version__,
        "model": scorer.digest,
        "abstain_below": scorer.abstain_below,
        "keep": list(scorer.keep),
        "files": [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in found],
        "shard": None if shard is None else list(shard),
        "parts": count,
    }


def _claim(folder, job):
    """Writes down what this run is; raises ValueError if the folder has parts of another run."""
    path = folder / _JOB
    if not path.exists():
        for part in folder.glob("*.parquet"):  # of a run that was killed when it had finished
            part.unlink()
    elif any(folder.glob("*.parquet")) and (former := strict_json.read(path)) != job:
        changed = [name for name, value in job.items() if former.get(name) != value]
        raise ValueError(
            f"{folder} has parts of another run, with another {', '.join(changed)}. Delete it, or choose another --out."
        )
    files.write(path, json.dumps(job, indent=1) + "\n")


def _write_parts(parts, todo, scorer, columns):
    """Writes the parts that are not there. A thread reads, and one makes and writes tables of the answers."""
    missing = [number for number, part in enumerate(parts) if not part.exists()]
    total, left = (sum(todo[number].rows for number in numbers) for numbers in (range(len(todo)), missing))
    answered, writing = [], None
    with bar() as progress, concurrent.futures.ThreadPoolExecutor(1) as pool:
        task = progress.add_task("scoring", total=total, completed=total - left)
        for number, table, x in _ahead(_read(missing, todo, scorer, columns)):
            if table is not None:
                answered.append(pool.submit(scorer.finish, table, x, scorer.answers.compute(x)))
                progress.advance(task, side_inputs.count(x))
                continue
            if writing is not None:
                writing.result()
            writing = pool.submit(_write_finished, parts[number], answered, todo[number].path, scorer)
            answered = []
        if writing is not None:
            writing.result()


def _read(numbers, todo, scorer, columns):
    """Yields the number of a block with tables and their checked inputs; after each block, with None."""
    answers, model = scorer.answers, scorer.answers.model
    text = table_files.text_columns(model.inputs_spec.columns, scorer.target, model.side_inputs)
    values = int(np.prod([length or 1 for length in model.inputs_spec.shape]))
    rows = answers.batch_size * max(1, _VALUES // (answers.batch_size * values))
    for number in numbers:
        for first, table in _tables(todo[number], rows, columns, text):
            try:
                x = scorer.inputs(table)
            except ValueError as error:
                raise ValueError(f"{todo[number].path}, in the rows from {first:,} on: {error}") from None
            yield number, table, x
        yield number, None, None


def _tables(block, rows, columns, text):
    try:
        yield from block.read(rows, columns, text)
    except table_files.DAMAGED as error:
        raise table_files.unreadable(block.path, error) from None


def _ahead(items: Iterable) -> Iterator:
    """Yields the items, of which a thread makes the next ones meanwhile."""
    iterator = iter(items)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = collections.deque(pool.submit(next, iterator, _END) for _ in range(2))
        while (item := coming.popleft().result()) is not _END:
            coming.append(pool.submit(next, iterator, _END))
            yield item


def _empty(path, scorer):
    """Returns the table of answers for no row of a file."""
    is_csv = path.suffix == ".csv"
    return scorer(pd.DataFrame(columns=blocks.names_in(path)) if is_csv else pq.read_schema(path).empty_table())


def _write_finished(part, answered, path, scorer):
    _write_part(part, [answers.result() for answers in answered] or [_empty(path, scorer)])


def _write_part(path, answers):
    table = pa.concat_tables(map(_arrow, answers), promote_options="permissive")
    with files.replacing(path) as temporary:
        pq.write_table(table, temporary, **_options(table.schema))


def _arrow(answers):
    if isinstance(answers, pd.DataFrame):
        return pa.Table.from_pandas(answers, preserve_index=False).replace_schema_metadata(None)
    table = answers if isinstance(answers, pa.Table) else pa.Table.from_batches([answers])
    return table.replace_schema_metadata(None)


def _options(schema):
    """Returns how Parquet is written: numbers as they are, since few of them occur twice."""
    return {"use_dictionary": [field.name for field in schema if not pa.types.is_floating(field.type)]}


def _join(parts, out):
    """Writes the rows of all parts to one file; returns their number."""
    schema = _common_schema([pq.read_schema(part) for part in parts])
    rows = 0
    with files.replacing(out) as temporary, pq.ParquetWriter(temporary, schema, **_options(schema)) as writer:
        for table in _ahead(pq.read_table(part, partitioning=None) for part in parts):
            writer.write_table(table.cast(schema))
            rows += len(table)
    return rows


def _common_schema(schemas):
    """Returns the schema of all parts; a column `keep` of csv files may hold numbers in one and text in another."""
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowTypeError:
        first = schemas[0]
        fields = [
            field if all(schema.field(field.name).equals(field) for schema in schemas) else field.with_type(pa.string())
            for field in first
        ]
        return pa.schema(fields)
