"""Folders of data files: where they are searched for, and where downloads and prepared files are written."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PathLike = str | os.PathLike


def data_directory(data_dir: PathLike | None = None) -> pathlib.Path:
    """Returns the root folder of the data: `data_dir` if given, else `$TFDS_DATA_DIR`, else TFDS' default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(chosen).expanduser().absolute()


def writable_directory(data_dir: PathLike | None = None) -> pathlib.Path:
    """Returns the data directory if it is writable, else the user's cache directory.

    The cache directory is `$XDG_CACHE_HOME/tfp_hybrid`, by default `~/.cache/tfp_hybrid`.
    """
    root = data_directory(data_dir)
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    # For root, `os.access` succeeds everywhere, so a folder without any write permission also counts as read-only.
    if os.access(existing, os.W_OK) and existing.stat().st_mode & 0o222:
        return root
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache).expanduser().absolute() / "tfp_hybrid"


def folder_for(name: str, data_dir: PathLike | None = None) -> pathlib.Path:
    """Returns the folder where a user should put the files of a data set if the download fails."""
    return writable_directory(data_dir) / "downloads" / "manual" / name


def is_shared(folder: pathlib.Path) -> bool:
    """Whether a folder is shared by all data sets, so that a generic file name does not identify one of them."""
    return folder.name == "manual"


def find(
    name: str,
    recognize: Callable[[pathlib.Path], T | None],
    data_dir: PathLike | None = None,
    first: pathlib.Path | None = None,
) -> T | None:
    """Searches for manually placed files; writes nothing.

    Folders are searched in this order:

    1. `<data_dir>/downloads/manual/<name>`, then `<data_dir>/downloads/manual`;
    2. a folder with the name of the data set, first next to `data_dir` and then inside it; case and underscores are
       ignored, so `notMNIST` and `notmnist` match `not_mnist`;
    3. if `data_dir` is read-only, the folders of 1. in the user's cache directory.

    Args:
      name: Name of the data set.
      recognize: A function that returns a description of the files in a folder, or None if they are not there.
      data_dir: Root folder of TFDS' data; see `data_directory`.
      first: A folder to search before all others, such as the `manual_dir` given to TFDS.

    Returns:
      The first result of `recognize` that is not None, or None.
    """
    root = data_directory(data_dir)
    manual = root / "downloads" / "manual"
    cached = folder_for(name, data_dir)
    folders = [manual / name, manual, *_named_like(name, root.parent), *_named_like(name, root)]
    folders += [cached, cached.parent]
    for folder in folders if first is None else [first, *folders]:
        if folder.is_dir() and (found := recognize(folder)) is not None:
            return found
    return None


def _named_like(name: str, parent: pathlib.Path) -> list[pathlib.Path]:
    def plain(text: str) -> str:
        return text.replace("_", "").casefold()

    try:
        return sorted(folder for folder in parent.iterdir() if plain(folder.name) == plain(name))
    except OSError:  # `parent` does not exist or cannot be listed
        return []
