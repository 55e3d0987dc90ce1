"""Atomic replacement of files, and locks on folders."""

import contextlib
import os
import pathlib
import shutil
import socket
import time
import warnings
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

LOCK = ".lock"
_TEMPORARY_PREFIX = ".new_"  # begins the name of a file that is being written
_REPLACED_PREFIX = ".old_"  # begins the name of a folder that is being replaced


@contextlib.contextmanager
def replacing(path: os.PathLike | str) -> Iterator[pathlib.Path]:
    """Returns a context manager that replaces a file atomically.

    It yields a temporary path, in the same folder and with the same suffix. On exit, the file written there is flushed
    to disk and renamed. If an error occurs, the temporary file is removed and the old file remains. If the process is
    killed, the path holds either the old file or the new one. For a symbolic link, the file that it points to is
    replaced.

    Args:
      path: The file to replace or create. Missing folders are created.

    Raises:
      OSError: If the file cannot be written, for example because the disk is full; the message names the file.
    """
    path = pathlib.Path(path).resolve()
    temporary = path.with_name(f"{_TEMPORARY_PREFIX}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, f"{path} cannot be written ({error.strerror or error})") from error
        raise


@contextlib.contextmanager
def replacing_folder(path: os.PathLike | str, marker: str) -> Iterator[pathlib.Path]:
    """Returns a context manager that puts a folder in its place once it is complete.

    It yields an empty temporary folder beside the path. On exit, the files in it are flushed to disk, and it is
    renamed. If an error occurs, it is removed and the old folder remains. (A folder cannot be exchanged in one step: a
    process killed between two renames leaves the new folder complete under its temporary name, and the old one, as
    ".old_" and its name, beside it.)

    Args:
      path: The folder to replace or create. Missing folders above it are created.
      marker: The name of a file by which an older folder is known, which may be replaced.

    Raises:
      ValueError: If the path is a file, or a folder with something else in it.
      OSError: If the folder cannot be written; the message names it.
    """
    path = pathlib.Path(path).resolve()
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / marker).is_file()):
        raise ValueError(f"{path} holds something else; wanted a new or empty folder, or one with {marker}.")
    temporary, replaced = (path.with_name(prefix + path.name) for prefix in (_TEMPORARY_PREFIX, _REPLACED_PREFIX))
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        shutil.rmtree(replaced, ignore_errors=True)
        if path.exists():
            os.rename(path, replaced)
        os.rename(temporary, path)
        _sync_folder(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException as error:
        if replaced.exists() and not path.exists():
            os.rename(replaced, path)
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"{path} cannot be written ({error.strerror or error})") from error
        raise


def write(path: os.PathLike | str, text: str):
    """Writes a text file atomically, as `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove(path: os.PathLike | str):
    """Removes a file if it exists, and flushes the removal to disk before it returns."""
    path = pathlib.Path(path)
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def check_writable(folder: pathlib.Path):
    """Raises ValueError if the folder is not writable, or does not exist and cannot be created."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"{folder} cannot be written: {nearest} is not a writable folder.")


def is_leftover(path: pathlib.Path) -> bool:
    """Returns whether a killed process may have left the file behind: a lock, or a file that was not renamed yet."""
    return path.name == LOCK or path.name.startswith(_TEMPORARY_PREFIX)


@contextlib.contextmanager
def locked(folder: os.PathLike | str) -> Iterator[None]:
    """Returns a context manager that locks a folder against other processes and threads.

    The folder is created if it is missing, and removed on exit if it is still empty. The operating system holds the
    lock, so it is released when the process ends, even if it is killed.

    Args:
      folder: The folder.

    Raises:
      ValueError: If another process has locked the folder, in which case the message names that process; or if the
        folder is a file or cannot be written.
    """
    folder = pathlib.Path(folder)
    if folder.is_file():  # one look: another thread may remove the folder between two
        raise ValueError(f"{folder} is a file; wanted a folder.")
    for place in (folder, *folder.parents):
        if place.is_symlink() and not place.exists():
            raise ValueError(f"{place} is a link to {os.readlink(place)}, which does not exist; wanted a folder.")
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        lock = _lock(folder)
    except OSError as error:
        _remove_empty(created)
        raise ValueError(f"{folder} cannot be written: {error}.") from None
    try:
        yield
    finally:
        if os.name == "nt":
            lock.close()  # Windows cannot remove an open file
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        _remove_empty(created)
        lock.close()


def _lock(folder):
    """Returns the open, locked lock file of the folder; raises ValueError if another process has locked it."""
    path, failures = folder / LOCK, 0
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+")
        except (FileNotFoundError, FileExistsError):  # the previous holder has just removed the folder, or it cannot be
            failures += 1
            if folder.is_file() or failures == 100:
                raise
            time.sleep(0.01)
            continue
        try:
            _try_lock(file)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read() or "another process"
            raise ValueError(f"{folder} is in use by {holder}; wait for it, or choose another folder.") from None
        except OSError as error:
            warnings.warn(
                f"{folder} cannot be locked ({error}); make sure that no other run writes into it.", stacklevel=4
            )
        # If the previous holder removed the file between our `open` and our lock, the lock protects nothing: try again.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def _try_lock(file):
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    file.seek(1024)  # beyond the text, since other processes cannot read a locked region
    try:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        raise BlockingIOError(*error.args) from None


def _remove_empty(folders):
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _sync(path):
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder):
    with contextlib.suppress(OSError):  # Windows cannot open a folder, and some file systems cannot sync one
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
