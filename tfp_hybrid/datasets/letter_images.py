"""Reader for NotMNIST's original format: a folder or an archive with one PNG file per image."""

from __future__ import annotations

import io
import pathlib
import tarfile
import zlib
from collections.abc import Iterator

import numpy as np
import PIL.Image

CLASS_NAMES = tuple("ABCDEFGHIJ")
SIZE = 28


def read_letter_images(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads images from `A/*.png ... J/*.png`, and skips unreadable files.

    The public archive contains a few empty and damaged PNG files. The images are returned in a fixed random order, so
    that the first rows contain all letters.

    Args:
      path: The folder with the ten folders `A ... J`, or a tar archive of it.

    Returns:
      uint8 images `(n, 28, 28)` and uint8 labels `(n,)`, 0 for A ... 9 for J.

    Raises:
      ValueError: If the archive is damaged, a letter has no readable image, or an image does not have 28x28 pixels.
    """
    files = _files_in_folder(path) if path.is_dir() else _files_in_archive(path)
    images, labels = [], []
    for key, content in sorted(files):
        image = _decode(content)
        if image is None:
            continue
        if image.shape != (SIZE, SIZE):
            raise ValueError(f"{key} in {path} has shape {image.shape}; wanted {(SIZE, SIZE)}.")
        images.append(image)
        labels.append(CLASS_NAMES.index(key[0]))
    missing = [name for label, name in enumerate(CLASS_NAMES) if label not in labels]
    if missing:
        raise ValueError(f"{path} has no readable image A/*.png ... J/*.png of {missing}; wanted all ten letters.")
    order = np.random.default_rng(0).permutation(len(images))
    return np.stack(images)[order], np.asarray(labels, np.uint8)[order]


def _files_in_folder(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    for name in CLASS_NAMES:
        for file in (path / name).glob("*.png"):
            yield f"{name}/{file.name}", file.read_bytes()


def _files_in_archive(path: pathlib.Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                key = pathlib.PurePosixPath(member.name)
                if member.isfile() and key.suffix == ".png" and key.parent.name in CLASS_NAMES:
                    yield f"{key.parent.name}/{key.name}", archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a readable tar archive: {error}") from None


def _decode(content: bytes) -> np.ndarray | None:
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError):  # Pillow raises these for empty and damaged files
        return None
