import gzip
import hashlib
import struct

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download.checksums import UrlInfo
from tensorflow_datasets.image_classification import mnist as tfds_mnist

from tfp_hybrid.datasets import catalogue

# Class counts and mean pixel of all 60,000 training images, as published for the original files.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
PUBLISHED = {
    "mnist": (MNIST_TRAIN, MNIST_TEST, 0.1307, [5, 0, 4, 1, 9]),
    "fashion_mnist": ([6000] * 10, [1000] * 10, 0.2860, [9, 0, 0, 3, 0]),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", ["mnist", pytest.param("fashion_mnist", marks=pytest.mark.nightly)])
def test_real_files(real_data, name, files_of):
    root = real_data / "tfds"
    if not (root / name).is_dir():
        pytest.skip(f"no {name} in {root}")
    before = files_of(root)
    dataset = catalogue.load(name, root)
    assert files_of(root) == before

    train_counts, test_counts, mean, first_labels = PUBLISHED[name]
    assert dataset.train[0].shape == (55_000, 28, 28, 1)
    assert dataset.validation[0].shape == (5_000, 28, 28, 1)
    assert dataset.test[0].shape == (10_000, 28, 28, 1)
    y = np.concatenate([dataset.train[1], dataset.validation[1]])
    assert y.dtype == np.int32
    assert np.bincount(y).tolist() == train_counts
    assert np.bincount(dataset.test[1]).tolist() == test_counts
    assert y[:5].tolist() == first_labels
    pixels = np.concatenate([dataset.train[0], dataset.validation[0]])
    assert pixels.dtype == np.uint8
    assert pixels.mean() / 255 == pytest.approx(mean, abs=5e-5)
    assert len(dataset.class_names) == dataset.num_classes == 10


@pytest.fixture
def small_originals(tmp_path, monkeypatch):
    """Original files of 40 + 10 images, which TFDS is made to accept as FashionMNIST's."""
    folder = tmp_path / "originals"
    folder.mkdir()
    rng = np.random.default_rng(0)
    arrays = {}
    for prefix, rows in (("train", 40), ("t10k", 10)):
        x = rng.integers(256, size=(rows, 28, 28), dtype=np.uint8)
        y = rng.integers(10, size=rows, dtype=np.uint8)
        arrays[prefix] = x, y
        for kind, header, values in (
            ("images-idx3", struct.pack(">IIII", 0x803, *x.shape), x),
            ("labels-idx1", struct.pack(">II", 0x801, rows), y),
        ):
            content = gzip.compress(header + values.tobytes())
            file = f"{prefix}-{kind}-ubyte.gz"
            (folder / file).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            info = UrlInfo(tfds.core.utils.Size(len(content)), digest, file)
            urls = tfds_mnist.FashionMNIST.url_infos
            monkeypatch.setitem(urls, tfds_mnist.FashionMNIST.URL + file, info)
    monkeypatch.setattr(tfds_mnist, "_TRAIN_EXAMPLES", 40)
    monkeypatch.setattr(tfds_mnist, "_TEST_EXAMPLES", 10)
    monkeypatch.setattr(catalogue, "_VALIDATION", 4)
    return folder, arrays


@pytest.mark.parametrize("locked", [False, True])
def test_originals_placed_by_hand(small_originals, data_dir, tmp_path, read_only, files_of, locked, capfd):
    folder, arrays = small_originals
    (data_dir / "downloads" / "manual").mkdir(parents=True)
    folder.rename(data_dir / "downloads" / "manual" / "fashion_mnist")
    if locked:
        read_only()
    before = files_of(data_dir)
    dataset = catalogue.load("fashion_mnist")
    x, y = arrays["train"]
    # TFDS stores the training rows in the order of hashed keys.
    theirs = np.concatenate([dataset.train[0], dataset.validation[0]])[..., 0]
    labels = np.concatenate([dataset.train[1], dataset.validation[1]])
    by_image = {image.tobytes(): label for image, label in zip(x, y, strict=True)}
    assert {image.tobytes(): label for image, label in zip(theirs, labels, strict=True)} == by_image
    assert len(dataset.validation[0]) == 4 and len(dataset.test[0]) == 10

    prepared = tmp_path / "cache" / "tfp_hybrid" if locked else data_dir
    assert (prepared / "fashion_mnist" / "3.0.1" / "dataset_info.json").exists()
    assert not locked or files_of(data_dir) == before
    assert "WARNING:absl" not in capfd.readouterr().err


def test_originals_in_the_shared_folder_are_not_taken(small_originals, data_dir):
    (data_dir / "downloads").mkdir()
    small_originals[0].rename(data_dir / "downloads" / "manual")
    with pytest.raises(ConnectionError):
        catalogue.load("fashion_mnist")


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_network_names_files_and_folder(data_dir, name):
    with pytest.raises(ConnectionError) as caught:
        catalogue.load(name)
    assert str(data_dir / "downloads" / "manual" / name) in str(caught.value)
    assert "t10k-labels-idx1-ubyte.gz" in str(caught.value)
    assert not any(data_dir.iterdir())
