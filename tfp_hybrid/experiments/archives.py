"""Zip archives from anywhere, among them `.keras` and `.npz` files."""

import contextlib
import os
import zipfile
from collections.abc import Iterator

_SMALL, _MOST_EXPANSION = 2**26, 100
"""A member up to this many bytes may be compressed by any factor; a larger one, by this."""


@contextlib.contextmanager
def open_archive(path: os.PathLike) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive whose members do not unpack to far more than the file's size.

    Raises:
      ValueError: if it is none, or if a member does.
      zipfile.BadZipFile: while reading: if a member is damaged.
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
