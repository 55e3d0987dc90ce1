"""`open_archive`: zip archives from untrusted sources, such as `.keras` and `.npz` files."""

import contextlib
import os
import zipfile
from collections.abc import Iterator

_SMALL, _MOST_EXPANSION = 2**26, 100
"""Members of up to `_SMALL` bytes may be compressed by any factor, larger ones by at most `_MOST_EXPANSION`."""


@contextlib.contextmanager
def open_archive(path: os.PathLike) -> Iterator[zipfile.ZipFile]:
    """Opens a zip archive, after checking that no member unpacks to far more bytes than the archive has.

    Raises:
      ValueError: If the file is not a zip archive, or a member unpacks to far more bytes.
      zipfile.BadZipFile: While reading, if a member is damaged.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{error}") from None
    with archive:
        for member in archive.infolist():
            if member.file_size > max(_SMALL, _MOST_EXPANSION * member.compress_size):
                raise ValueError(
                    f"its file {member.filename} unpacks from {member.compress_size:,} to {member.file_size:,} bytes; "
                    f"wanted at most {_MOST_EXPANSION} times as many. Save it without compression."
                )
        yield archive
