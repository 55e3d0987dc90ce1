import re
import time

import pytest
import requests
import tensorflow_datasets as tfds

from tfp_hybrid.datasets.download import download


def test_download_is_kept(web, data_dir, monkeypatch):
    folder, address = web
    (folder / "one.csv").write_text("1")
    (folder / "two.csv").write_text("2")
    files = {name: f"{address}/{name}" for name in ("one.csv", "two.csv")}
    first = download("numbers", files)
    assert {name: path.read_text() for name, path in first.items()} == {
        "one.csv": "1",
        "two.csv": "2",
    }
    assert all(data_dir / "downloads" in path.parents for path in first.values())

    monkeypatch.setattr(requests.Session, "send", None)  # the network is gone
    assert download("numbers", files) == first


def test_read_only_data_dir_is_not_written(web, data_dir, read_only, tmp_path, files_of):
    folder, address = web
    (folder / "one.csv").write_text("1")
    read_only()
    before = files_of(data_dir)
    path = download("numbers", {"one.csv": f"{address}/one.csv"})["one.csv"]
    assert tmp_path / "cache" / "tfp_hybrid" / "downloads" in path.parents
    assert files_of(data_dir) == before


def test_no_network_is_told_at_once(data_dir, files_of):
    start = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        download("numbers", {"one.csv": "http://example.org/one", "two.csv": "http://a.org/two"})
    assert time.monotonic() - start < 2
    message = str(caught.value)
    assert "one.csv (http://example.org/one), two.csv (http://a.org/two)" in message
    assert f"folder {data_dir / 'downloads' / 'manual' / 'numbers'}," in message
    assert "no network" in message and "\n" not in message
    assert caught.value.__suppress_context__
    assert files_of(data_dir) == {}


def test_missing_file_is_told_at_once(web):
    address = web[1]
    with pytest.raises(ConnectionError, match=f"{re.escape(address)}/no.csv responds .* 404"):
        download("numbers", {"no.csv": f"{address}/no.csv"})


@pytest.mark.parametrize("error", [tfds.core.download.DownloadError("HTTP code: 403."), OSError("reset by peer")])
def test_download_that_breaks_off(web, data_dir, monkeypatch, error):
    folder, address = web
    (folder / "one.csv").write_text("1")

    def fail(self, urls):
        raise error

    monkeypatch.setattr(tfds.download.DownloadManager, "download", fail)
    with pytest.raises(ConnectionError, match=f"{data_dir}.*{error}"):
        download("numbers", {"one.csv": f"{address}/one.csv"})
