"""Where data files are looked for, and where downloads and prepared files may be written."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PathLike = str | os.PathLike


def data_directory(data_dir: PathLike | None = None) -> pathlib.Path:
    """Returns the root of prepared data: `data_dir`, else `$TFDS_DATA_DIR`, else TFDS' default."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return pathlib.Path(chosen).expanduser().absolute()


def writable_directory(data_dir: PathLike | None = None) -> pathlib.Path:
    """Returns the data directory if it may be written, else the user's cache directory.

    The cache directory is `$XDG_CACHE_HOME/tfp_hybrid`, by default `~/.cache/tfp_hybrid`.
    """
    root = data_directory(data_dir)
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    # root passes `os.access` everywhere, so a folder without any write bit is left alone as well.
    if os.access(existing, os.W_OK) and existing.stat().st_mode & 0o222:
        return root
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(cache).expanduser().absolute() / "tfp_hybrid"


def by_hand(name: str, data_dir: PathLike | None = None) -> pathlib.Path:
    """Returns the folder a user is told to put files into when a download fails."""
    return writable_directory(data_dir) / "downloads" / "manual" / name


def is_shared(folder: pathlib.Path) -> bool:
    """Whether a folder serves all data sets, so that a generic file name in it proves nothing."""
    return folder.name == "manual"


def find(
    name: str,
    recognize: Callable[[pathlib.Path], T | None],
    data_dir: PathLike | None = None,
    first: pathlib.Path | None = None,
) -> T | None:
    """Looks for files that were put in place by hand.

    Folders are tried in this order:

    1. `<data_dir>/downloads/manual/<name>`, then `<data_dir>/downloads/manual`;
    2. a folder named like the data set, beside `data_dir` and then inside it; case and underscores
       do not count, so `notMNIST` and `notmnist` are found for `not_mnist`;
    3. where `data_dir` is read-only, the folders of 1. in the user's cache directory.

    Nothing is ever written to them.

    Args:
        name: Name of the data set.
        recognize: Maps a folder to a description of the wanted files in it, or to None.
        data_dir: See `data_directory`.
        first: A folder to try before all others, such as the `manual_dir` given to TFDS.

    Returns:
        The first answer of `recognize` that is not None, or None.
    """
    root = data_directory(data_dir)
    manual = root / "downloads" / "manual"
    cached = by_hand(name, data_dir)
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
    except OSError:  # `parent` is absent, or may not be listed
        return []
