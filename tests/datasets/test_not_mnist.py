import gzip
import hashlib
import struct
import tarfile

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from tfp_hybrid.datasets import load, not_mnist


def write_idx(folder, prefix, x, y):
    folder.mkdir(parents=True, exist_ok=True)
    images = struct.pack(">IIII", 0x803, *x.shape) + x.tobytes()
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    labels = struct.pack(">II", 0x801, len(y)) + y.tobytes()
    (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(labels)


def some_letters(rows, seed):
    rng = np.random.default_rng(seed)
    return rng.integers(256, size=(rows, 28, 28), dtype=np.uint8), rng.integers(10, size=rows, dtype=np.uint8)


def test_test_files_alone(data_dir):
    x, y = some_letters(7, seed=0)
    write_idx(data_dir.parent / "notMNIST", "t10k", x, y)
    dataset = not_mnist.load()
    np.testing.assert_array_equal(dataset.test[0], x[..., np.newaxis])
    np.testing.assert_array_equal(dataset.test[1], y)
    assert dataset.test[1].dtype == np.int32
    for empty in (dataset.train, dataset.validation):
        assert empty[0].shape == (0, 28, 28, 1) and empty[1].shape == (0,)
    assert dataset.class_names[dataset.test[1][0]] == "ABCDEFGHIJ"[y[0]]


def test_train_files_beside_them(data_dir):
    x, y = some_letters(24, seed=1)
    folder = data_dir / "downloads" / "manual" / "not_mnist"
    write_idx(folder, "t10k", *some_letters(5, seed=2))
    write_idx(folder, "train", x, y)
    dataset = not_mnist.load()
    np.testing.assert_array_equal(dataset.train[0][..., 0], x[:22])
    np.testing.assert_array_equal(dataset.validation[0][..., 0], x[22:])
    np.testing.assert_array_equal(dataset.validation[1], y[22:])


def test_builder_gives_the_same_rows(data_dir, files_of):
    folder = data_dir.parent / "notmnist"
    write_idx(folder, "t10k", *some_letters(30, seed=3))
    write_idx(folder, "train", *some_letters(24, seed=4))
    before = files_of(folder)
    splits = tfds.load("not_mnist", data_dir=data_dir, batch_size=-1, as_supervised=True)
    dataset = not_mnist.load()
    for ours, theirs in zip(dataset.test, splits["test"], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(splits["train"][0][:22], dataset.train[0])
    assert files_of(folder) == before


def test_builder_takes_tfds_manual_dir(data_dir, tmp_path):
    x, y = some_letters(6, seed=5)
    write_idx(tmp_path / "mine", "t10k", x, y)
    config = tfds.download.DownloadConfig(manual_dir=tmp_path / "mine")
    builder = tfds.builder("not_mnist", data_dir=data_dir)
    builder.download_and_prepare(download_config=config)
    rows = builder.as_dataset(split="test", batch_size=-1)
    np.testing.assert_array_equal(rows["image"][..., 0], x)


@pytest.fixture
def archive(tmp_path):
    """The public form: an archive of PNG files, one of them broken."""
    folder = tmp_path / "notMNIST_small"
    for label, name in enumerate("ABCDEFGHIJ"):
        (folder / name).mkdir(parents=True)
        PIL.Image.fromarray(np.full((28, 28), label, np.uint8)).save(folder / name / "x.png")
    (folder / "A" / "broken.png").write_bytes(b"")
    path = tmp_path / "notMNIST_small.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.add(folder, arcname=folder.name)
    return path


@pytest.mark.parametrize("place", ["archive", "unpacked", "letters"])
def test_image_files(archive, data_dir, place):
    manual = data_dir / "downloads" / "manual"
    (manual / "not_mnist").mkdir(parents=True)
    if place == "archive":
        archive.rename(manual / archive.name)
    elif place == "unpacked":
        (archive.parent / "notMNIST_small").rename(manual / "notMNIST_small")
    else:
        (archive.parent / "notMNIST_small").rename(manual / "not_mnist")
    x, y = not_mnist.load().test
    assert x.shape == (10, 28, 28, 1) and sorted(y) == list(range(10))
    np.testing.assert_array_equal(x[:, 5, 5, 0], y)


@pytest.fixture
def served(archive, web, monkeypatch):
    """The archive on a web server, whose address the loader has."""
    folder, address = web
    archive.rename(folder / archive.name)
    monkeypatch.setitem(not_mnist._FILES, archive.name, f"{address}/{archive.name}")
    return folder / archive.name


def test_another_archive_than_the_known_one_is_refused_and_not_kept(served, data_dir):
    for load_it in (not_mnist.load, lambda: tfds.load("not_mnist", data_dir=data_dir)):
        with pytest.raises(
            ConnectionError, match="file at .* has .* bytes and the MD5 .*; wanted 8,458,043 and c9890a47"
        ):
            load_it()
    assert not [path for path in data_dir.rglob("*") if path.is_file() and path.stat().st_size]


def test_download(served, monkeypatch, data_dir):
    known = served.stat().st_size, hashlib.md5(served.read_bytes()).hexdigest()
    monkeypatch.setitem(not_mnist._KNOWN, served.name, known)
    x = load("not_mnist").test[0]
    assert sorted(x[:, 0, 0, 0]) == list(range(10))
    rows = tfds.load("not_mnist", data_dir=data_dir, split="test", batch_size=-1)
    np.testing.assert_array_equal(rows["image"], x)


def test_no_network_names_file_address_and_folder(data_dir):
    with pytest.raises(ConnectionError) as caught:
        not_mnist.load()
    for part in (
        "http://yaroslavvb.com/upload/notMNIST/notMNIST_small.tar.gz",
        str(data_dir / "downloads" / "manual" / "not_mnist"),
    ):
        assert part in str(caught.value)


def test_files_of_mnist_in_the_shared_folder_are_not_taken(data_dir):
    write_idx(data_dir / "downloads" / "manual", "t10k", *some_letters(3, seed=6))
    with pytest.raises(ConnectionError):
        not_mnist.load()


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ((np.zeros((3, 28, 28), np.uint8), np.zeros(2, np.uint8)), r"wanted \(2, 28, 28\)"),
        ((np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.uint8)), r"has shape \(2, 8, 8\)"),
        ((np.zeros((2, 28, 28), np.uint8), np.uint8([0, 10])), "label 10; wanted 0 ... 9"),
    ],
)
def test_files_that_do_not_fit(data_dir, rows, complaint):
    write_idx(data_dir / "notmnist", "t10k", *rows)
    with pytest.raises(ValueError, match=f"t10k.*{complaint}"):
        not_mnist.load()


def test_missing_labels(data_dir):
    write_idx(data_dir / "notmnist", "t10k", *some_letters(3, seed=7))
    (data_dir / "notmnist" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match=r"no t10k-labels-idx1-ubyte\[.gz\]"):
        not_mnist.load()


@pytest.mark.integration
def test_real_files(real_data, files_of):
    folder = real_data / "notmnist"
    if not folder.is_dir():
        pytest.skip(f"no NotMNIST in {folder}")
    before = files_of(folder)
    content = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert struct.unpack(">IIII", content[:16]) == (0x803, 10_000, 28, 28)
    x = load("not_mnist", data_dir=real_data / "tfds").test[0]
    assert x.shape == (10_000, 28, 28, 1) and x.dtype == np.uint8
    assert x.tobytes() == content[16:]
    assert files_of(folder) == before
