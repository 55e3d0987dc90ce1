"""Zip archives from untrusted sources, such as `.keras` and `.npz` files."""

import contextlib
import os
import zipfile
from collections.abc import Iterator

_SMALL, _MOST_EXPANSION = 2**26, 100
"""Members up to this many bytes may be compressed by any factor, larger ones by at most this factor."""


@contextlib.contextmanager
def open_archive(path: os.PathLike) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive whose members do not unpack to far more than the file's size.

    Raises:
      ValueError: if the file is not an archive, or a member unpacks to far more.
      zipfile.BadZipFile: while reading, if a member is damaged.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{error}") from None
    with archive:
        for member in archive.infolist():
            if member.file_size > max(_SMALL, _MOST_EXPANSION * member.compress_size):
                raise ValueError(
                    f"its {member.filename} unpacks from {member.compress_size:,} to {member.file_size:,} bytes; "
                    f"wanted at most {_MOST_EXPANSION} times as many. Save it without compression."
                )
        yield archive
