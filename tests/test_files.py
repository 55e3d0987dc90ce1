import errno
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

from tfp_hybrid import files

resource = pytest.importorskip("resource", reason="POSIX: limits and signals")

HOLD = """
import runpy, sys
with runpy.run_path(sys.argv[1])["locked"](sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has locked `tmp_path / "run"`."""
    arguments = [sys.executable, "-c", HOLD, files.__file__, tmp_path / "run"]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"locked\n"
    yield process
    process.stdin.close()
    process.wait()


@pytest.fixture
def full_disk():
    """No file can grow beyond 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_on_the_disk_before_it_is_renamed(tmp_path, monkeypatch):
    seen = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (seen.append(os.fstat(file).st_ino), fsync(file)))
    monkeypatch.setattr(os, "replace", lambda *paths: (seen.append("rename"), replace(*paths)))
    files.write(tmp_path / "a.txt", "new")
    file, folder = (tmp_path / "a.txt").stat().st_ino, tmp_path.stat().st_ino
    assert seen == [file, "rename", folder]
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path, full_disk):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="a.txt cannot be written") as error:
        files.write(path, 5000 * "new")
    assert error.value.errno == errno.EFBIG
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_file_behind_a_link_is_replaced(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "a.txt")
    files.write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a.txt").read_text() == "new"


def test_a_link_to_nowhere_is_refused(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "unmounted")
    for folder in (tmp_path / "runs", tmp_path / "runs" / "digits"):
        with pytest.raises(ValueError, match="runs is a link to .*unmounted, which does not exist"):
            with files.locked(folder):
                pass


def test_a_folder_that_can_never_be_made_is_refused(tmp_path, monkeypatch):
    """As in `/proc`, where it seems that another process removes it again and again."""

    def missing(self, **options):
        raise FileNotFoundError(2, "No such file or directory", str(self))

    monkeypatch.setattr(pathlib.Path, "mkdir", missing)
    with pytest.raises(ValueError, match="cannot be written: .*No such file"):
        with files.locked(tmp_path / "run"):
            pass


def test_a_locked_folder_is_refused_by_the_name_of_the_process(holder, tmp_path):
    with pytest.raises(ValueError, match=f"run is in use by process {holder.pid} on "), files.locked(tmp_path / "run"):
        pass
    assert [path.name for path in (tmp_path / "run").iterdir()] == [files.LOCK], "still locked"


def test_a_lock_ends_with_its_process(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert files.is_leftover(tmp_path / "run" / files.LOCK) and (tmp_path / "run" / files.LOCK).exists()
    with files.locked(tmp_path / "run"):
        pass
    assert list((tmp_path / "run").iterdir()) == []


def test_a_lock_keeps_out_the_threads_of_one_process(tmp_path):
    """Of many that come at once, one at a time gets in."""
    inside, most, refused = [], [], []

    def work():
        for _ in range(200):
            try:
                with files.locked(tmp_path / "run"):
                    inside.append(None)
                    most.append(len(inside))
                    inside.pop()
            except ValueError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and all("in use by" in message for message in refused)


def test_a_folder_is_made_and_removed_if_it_stays_empty(tmp_path):
    with files.locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert list(tmp_path.iterdir()) == []
    with files.locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "kept").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["kept"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below"):
        with pytest.raises(ValueError, match="file"), files.locked(tmp_path / place):
            pass
    assert (tmp_path / "file").read_text() == "mine"


def write_folder(path, text, error=None):
    with files.replacing_folder(path, "marker") as beside:
        (beside / "marker").write_text(text)
        (beside / "inside").mkdir()
        (beside / "inside" / "more").write_text(text)
        if error:
            raise error


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_is_replaced_when_it_is_complete(tmp_path):
    write_folder(tmp_path / "a" / "b", "old")
    with pytest.raises(OSError, match=r"b cannot be written \(full\)"):
        write_folder(tmp_path / "a" / "b", "new", OSError(28, "full"))
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "a" / "b", "new", KeyboardInterrupt())
    assert contents(tmp_path) == {"a/b/marker": "old", "a/b/inside/more": "old"}
    write_folder(tmp_path / "a" / "b", "new")
    assert contents(tmp_path) == {"a/b/marker": "new", "a/b/inside/more": "new"}


def test_the_older_folder_comes_back_if_the_newer_cannot_be_renamed(tmp_path, monkeypatch):
    write_folder(tmp_path / "b", "old")
    rename = os.rename

    def fail(source, target):
        if source.name.startswith(".new_"):
            raise OSError(5, "broken")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match=r"b cannot be written \(broken\)"):
        write_folder(tmp_path / "b", "new")
    assert contents(tmp_path) == {"b/marker": "old", "b/inside/more": "old"}


def test_what_a_killed_process_left_is_removed(tmp_path):
    for left in (".new_b", ".old_b"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "half").write_text("")
    write_folder(tmp_path / "b", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_folder_of_other_files_is_not_replaced(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for path in (tmp_path, tmp_path / "mine"):
        with pytest.raises(ValueError, match="wanted a new or empty folder, or one with marker"):
            write_folder(path, "new")
    assert contents(tmp_path) == {"mine": "mine"}
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "empty", "new")
    assert (tmp_path / "empty" / "marker").read_text() == "new"
