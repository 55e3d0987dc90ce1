"""Downloads through TFDS that fail fast and explain how to place the files manually."""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping

import requests
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError

from tfp_hybrid.datasets import manual

_TIMEOUT = 10.0
"""Seconds to wait for a server's answer."""


def download(
    name: str,
    files: Mapping[str, str],
    data_dir: manual.PathLike | None = None,
    dl_manager: tfds.download.DownloadManager | None = None,
    known: Mapping[str, tuple[int, str]] | None = None,
) -> dict[str, pathlib.Path]:
    """Downloads files, or returns the copies from an earlier download.

    Args:
      name: Name of the data set.
      files: URLs by the files' public names.
      data_dir: Root folder of TFDS' data; see `manual.data_directory`. Files are stored in its `downloads` folder, or
        in the user's cache directory if it is read-only.
      dl_manager: TFDS' download manager; None creates one.
      known: Expected size in bytes and MD5 of files, by their public names. A file that differs is deleted.

    Returns:
      Paths by the files' public names. TFDS chooses the paths, so a file's suffix says nothing about its format.

    Raises:
      ConnectionError: If a file cannot be downloaded or differs from the known one. The message says where to put it.
    """
    folder = manual.writable_directory(data_dir) / "downloads"
    with explain_failure(name, files, data_dir):
        check_reachable(files.values(), folder)
        if dl_manager is None:
            dl_manager = tfds.download.DownloadManager(download_dir=folder, dataset_name=name)
        paths = {key: pathlib.Path(path) for key, path in dl_manager.download(dict(files)).items()}
        for key, wanted in (known or {}).items():
            _check_content(paths[key], files[key], wanted)
    return paths


@contextlib.contextmanager
def explain_failure(name: str, files: Mapping[str, str], data_dir: manual.PathLike | None) -> Iterator[None]:
    """Turns any error of a download into a ConnectionError that says which files to put where."""
    try:
        yield
    except (OSError, tfds.core.download.DownloadError, NonMatchingChecksumError) as error:
        listing = ", ".join(f"{file} ({url})" for file, url in files.items())
        raise ConnectionError(
            f"The data set {name!r} could not be downloaded. Put {listing} into the folder "
            f"{manual.folder_for(name, data_dir)}, and load it again. Reason: {_first_line(error)}"
        ) from None


def check_reachable(urls: Iterable[str], download_dir: pathlib.Path) -> None:
    """Checks that the servers of all files that are not yet in `download_dir` respond.

    Without this check, TFDS would silently retry for minutes, without a time limit.

    Raises:
      OSError: If a server does not respond or does not have the file.
    """
    urls = set(urls)
    for record in download_dir.rglob("*.INFO"):
        urls -= set(json.loads(record.read_text()).get("urls", ()))
    for url in sorted(urls):
        answer = requests.head(url, timeout=_TIMEOUT, allow_redirects=True)
        # Some servers refuse HEAD requests with other status codes; then the download itself decides.
        if answer.status_code in (404, 410) or answer.status_code >= 500:
            raise OSError(f"{url} responds with HTTP status {answer.status_code}")


def manual_dir(dl_manager: tfds.download.DownloadManager) -> pathlib.Path | None:
    """Returns TFDS' folder for manually placed files, or None if it is missing or empty."""
    try:
        return pathlib.Path(dl_manager.manual_dir)
    except AssertionError:
        return None


def _check_content(path: pathlib.Path, url: str, wanted: tuple[int, str]) -> None:
    with path.open("rb") as file:
        found = path.stat().st_size, hashlib.file_digest(file, "md5").hexdigest()
    if found != wanted:
        for part in (path, path.with_name(f"{path.name}.INFO")):  # else TFDS would reuse it as an earlier download
            part.unlink(missing_ok=True)
        raise OSError(
            f"the file at {url} has {found[0]:,} bytes and the MD5 {found[1]}; wanted {wanted[0]:,} and {wanted[1]}"
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
