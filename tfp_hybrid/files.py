"""Files that are written whole or not at all, and folders that one process at a time works in."""

import contextlib
import os
import pathlib
import socket
import warnings
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

LOCK = ".lock"
_BESIDE = ".new_"  # before a file's name while it is written


@contextlib.contextmanager
def replacing(path: os.PathLike) -> Iterator[pathlib.Path]:
    """Replaces a file as a whole: whenever the process dies, the path has the old file or the new one.

    Yields the path to write to, in the same folder and with the same suffix. At the end, what was written there is
    brought to the disk and renamed. After an error it is removed, and the old file stays. Of a link, the file that it
    leads to is replaced.

    Args:
      path: the file to replace, or to make; folders that are missing are made, too.

    Raises:
      OSError: if it cannot be written, such as on a full disk; the message names the file.
    """
    path = pathlib.Path(path).resolve()
    beside = path.with_name(f"{_BESIDE}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _sync(beside)
        os.replace(beside, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, f"{path} cannot be written ({error.strerror or error})") from error
        raise


def write(path: os.PathLike, text: str):
    """Replaces a text file, as `replacing`."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def remove(path: os.PathLike):
    """Removes a file if it is there; that it is gone is on the disk before anything that follows."""
    path = pathlib.Path(path)
    path.unlink(missing_ok=True)
    _sync_folder(path.parent)


def check_writable(folder: pathlib.Path):
    """Raises ValueError if the folder is not there and cannot be made, or cannot be written into."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ValueError(f"--out {folder}: {nearest} is no folder that can be written into.")


def is_leftover(path: pathlib.Path) -> bool:
    """Whether a process that was killed may have left the file: a lock, or one that was not renamed yet."""
    return path.name == LOCK or path.name.startswith(_BESIDE)


@contextlib.contextmanager
def locked(folder: os.PathLike):
    """Keeps other processes, and other threads, out of a folder that is written into.

    The folder is made if it is missing; at the end it is removed again if it is still empty. The lock is the operating
    system's, so that it ends with the process, however that ends.

    Args:
      folder: the folder.

    Raises:
      ValueError: if another process holds it, which the message names; if it is a file, or cannot be written into.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; wanted a folder.")
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        lock = _lock(folder)
    except OSError as error:
        _remove_empty(made)
        raise ValueError(f"{folder} cannot be written into: {error}.") from None
    try:
        yield
    finally:
        if os.name == "nt":
            lock.close()  # Windows removes no open file
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        _remove_empty(made)
        lock.close()


def _lock(folder):
    """The open, locked file in the folder; ValueError if another process has it."""
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+")
        except FileNotFoundError:  # who had it before has just removed the folder
            continue
        try:
            _try_lock(file)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read() or "another process"
            raise ValueError(f"{folder} is in use by {holder}; wait for it, or take another folder.") from None
        except OSError as error:
            warnings.warn(f"{folder} cannot be locked ({error}); let no other run write into it.", stacklevel=4)
        # Who had it before may have removed the file between our `open` and our lock, which is then worth nothing.
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
    file.seek(1024)  # beyond what is written: nobody else can read a locked part
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
    with contextlib.suppress(OSError):  # Windows opens no folder; some file systems do not sync one
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
