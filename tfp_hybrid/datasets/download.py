"""Downloads through TFDS that fail at once, and say what to do by hand."""

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
"""Seconds within which a server must answer."""


def download(
    name: str,
    files: Mapping[str, str],
    data_dir: manual.PathLike | None = None,
    dl_manager: tfds.download.DownloadManager | None = None,
    known: Mapping[str, tuple[int, str]] | None = None,
) -> dict[str, pathlib.Path]:
    """Downloads files, or returns the copies kept from an earlier download.

    Args:
        name: Name of the data set.
        files: Address of each file, by the name the file has in public.
        data_dir: See `manual.data_directory`. Files go to its `downloads` folder, or to that of
            the user's cache where it is read-only.
        dl_manager: TFDS' manager, if a builder has one already.
        known: Size in bytes and MD5 of files, by their public names. One that differs is not kept.

    Returns:
        Path of each file, by its public name. The path itself is of TFDS' making: trust the
        content of a file, not its suffix.

    Raises:
        ConnectionError: A file cannot be had, or is another than the known one; the message says where to put it by
            hand.
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
    """Turns whatever a failing download raises into one sentence: which file to put where."""
    try:
        yield
    except (OSError, tfds.core.download.DownloadError, NonMatchingChecksumError) as error:
        listing = ", ".join(f"{file} ({url})" for file, url in files.items())
        raise ConnectionError(
            f"Cannot download the data set {name!r}: put {listing} by hand into the folder "
            f"{manual.by_hand(name, data_dir)}, and load it again. Reason: {_first_line(error)}"
        ) from None


def check_reachable(urls: Iterable[str], download_dir: pathlib.Path) -> None:
    """Asks servers for a sign of life, for files that are not yet in `download_dir`.

    TFDS retries for minutes, with neither a time limit nor a word to the user.

    Raises:
        OSError: A server does not answer, or does not have the file.
    """
    urls = set(urls)
    for record in download_dir.rglob("*.INFO"):
        urls -= set(json.loads(record.read_text()).get("urls", ()))
    for url in sorted(urls):
        answer = requests.head(url, timeout=_TIMEOUT, allow_redirects=True)
        # Other codes may concern HEAD alone, which some servers refuse: the download will tell.
        if answer.status_code in (404, 410) or answer.status_code >= 500:
            raise OSError(f"{url} answers with HTTP status {answer.status_code}")


def manual_dir(dl_manager: tfds.download.DownloadManager) -> pathlib.Path | None:
    """Returns TFDS' folder for files placed by hand, or None while it is absent or empty."""
    try:
        return pathlib.Path(dl_manager.manual_dir)
    except AssertionError:
        return None


def _check_content(path: pathlib.Path, url: str, wanted: tuple[int, str]) -> None:
    with path.open("rb") as file:
        found = path.stat().st_size, hashlib.file_digest(file, "md5").hexdigest()
    if found != wanted:
        for part in (path, path.with_name(f"{path.name}.INFO")):  # TFDS would take it for the copy of an earlier time
            part.unlink(missing_ok=True)
        raise OSError(
            f"what {url} gave has {found[0]:,} bytes and the MD5 {found[1]}; wanted {wanted[0]:,} and {wanted[1]}"
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
