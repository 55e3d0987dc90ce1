"""Fixtures of the data set tests: own folders, and no network."""

import functools
import http.server
import stat
import threading

import pytest
import requests


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
    """An empty `data_dir` in a folder of its own, beside which nothing lies; also the default."""
    folder = tmp_path / "home" / "tensorflow_datasets"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Lets requests reach this machine alone."""
    send = requests.Session.send

    def send_locally(self, request, **kwargs):
        if not request.url.startswith("http://127.0.0.1:"):
            raise requests.exceptions.ConnectionError("no network")
        return send(self, request, **kwargs)

    monkeypatch.setattr(requests.Session, "send", send_locally)


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A folder and the address at which a web server shows it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "web"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def read_only(data_dir):
    """`data_dir` as a folder that nobody may write, once a test has filled it."""
    folders = []

    def lock():
        folders.extend([data_dir, *(path for path in data_dir.rglob("*") if path.is_dir())])
        for folder in folders:
            folder.chmod(stat.S_IRUSR | stat.S_IXUSR)

    yield lock
    for folder in folders:
        folder.chmod(stat.S_IRWXU)


@pytest.fixture
def files_of():
    """Lists the files under a folder with the times of their last change."""

    def listing(folder):
        return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}

    return listing
