"""Reader for the idx format of MNIST's original files."""

from __future__ import annotations

import gzip
import pathlib
import struct
import zlib

import numpy as np

_GZIP = b"\x1f\x8b"
_UNSIGNED_BYTES = 0x08


def read_idx(path: pathlib.Path, rank: int) -> np.ndarray:
    """Reads an idx file of unsigned bytes, plain or gzip-compressed.

    The format consists of two zero bytes, a byte for the type (0x08 for unsigned bytes), a byte for the rank, the
    sizes of the axes as big-endian 32-bit integers, and the values.

    Args:
      path: Path of the file.
      rank: Expected number of axes: 3 for images, 1 for labels.

    Returns:
      A uint8 array of that rank.

    Raises:
      ValueError: If the file is not such an idx file, or its size does not match its header.
    """
    content = path.read_bytes()
    if content.startswith(_GZIP):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file: {error}") from None
    header = 4 + 4 * rank
    wanted = bytes((0, 0, _UNSIGNED_BYTES, rank))
    if content[:4] != wanted or len(content) < header:
        raise ValueError(
            f"{path} is not an idx file of unsigned bytes with {rank} axes. It starts with "
            f"{content[:4].hex() or 'nothing'}; wanted {wanted.hex()} and {rank} sizes."
        )
    shape = struct.unpack(f">{rank}I", content[4:header])
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path} has {values.size} values, but its header gives the shape {shape}.")
    return values.reshape(shape).copy()  # the buffer is read-only


def find_idx(folder: pathlib.Path, stem: str) -> pathlib.Path | None:
    """Returns `folder/stem` or `folder/stem.gz`, whichever exists, or None if neither does."""
    candidates = (folder / stem, folder / f"{stem}.gz")
    return next((path for path in candidates if path.is_file()), None)
