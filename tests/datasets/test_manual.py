import pathlib

import pytest

from tfp_hybrid.datasets import manual


def recognize(folder: pathlib.Path) -> pathlib.Path | None:
    return folder if (folder / "wanted").exists() else None


def place(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wanted").touch()
    return folder


def test_data_directory(monkeypatch, data_dir, tmp_path):
    assert manual.data_directory(tmp_path / "given") == tmp_path / "given"
    assert manual.data_directory() == data_dir
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert manual.data_directory() == tmp_path / "tensorflow_datasets"
    assert manual.data_directory("~/x") == tmp_path / "x"


def test_order_of_search(data_dir):
    """Each place that is added wins over all that were there before it."""
    assert manual.find("not_mnist", recognize) is None
    for folder in (
        data_dir / "NotMnist",
        data_dir.parent / "notMNIST",
        data_dir / "downloads" / "manual",
        data_dir / "downloads" / "manual" / "not_mnist",
    ):
        place(folder)
        assert manual.find("not_mnist", recognize) == folder
    first = place(data_dir.parent / "elsewhere")
    assert manual.find("not_mnist", recognize, first=first) == first


@pytest.mark.parametrize("folder", ["not_mnist", "notMNIST", "notmnist", "NOT_MNIST"])
def test_names_without_case_and_underscores(data_dir, folder):
    place(data_dir.parent / folder)
    assert manual.find("not_mnist", recognize).name == folder


def test_folders_without_the_wanted_files_are_passed_over(data_dir):
    (data_dir / "not_mnist" / "1.0.0").mkdir(parents=True)  # what TFDS prepared
    (data_dir.parent / "notmnist").touch()  # no folder
    place(data_dir.parent / "mnist")
    assert manual.find("not_mnist", recognize) is None


def test_writable_directory(tmp_path, data_dir, read_only):
    assert manual.writable_directory() == data_dir
    assert manual.writable_directory(data_dir / "not" / "yet") == data_dir / "not" / "yet"
    read_only()
    cache = tmp_path / "cache" / "tfp_hybrid"
    assert manual.writable_directory() == cache
    assert manual.writable_directory(data_dir / "not" / "yet") == cache
    assert not cache.exists()


def test_the_place_that_users_are_told_is_searched(data_dir, read_only):
    told = manual.folder_for("flights")
    assert told == data_dir / "downloads" / "manual" / "flights"
    assert manual.find("flights", recognize) is None
    read_only()
    told = manual.folder_for("flights")
    assert data_dir not in told.parents
    place(told)
    assert manual.find("flights", recognize) == told
