"""NotMNIST: the letters A to J in many typefaces, in MNIST's format."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping

import numpy as np
import tensorflow_datasets as tfds

from tfp_hybrid.datasets import manual
from tfp_hybrid.datasets.dataset import Dataset, Split
from tfp_hybrid.datasets.download import download, manual_dir
from tfp_hybrid.datasets.idx import find_idx, read_idx
from tfp_hybrid.datasets.letter_images import CLASS_NAMES, SIZE, read_letter_images

_ARCHIVE = "notMNIST_small.tar.gz"
_FILES = {_ARCHIVE: f"http://yaroslavvb.com/upload/notMNIST/{_ARCHIVE}"}
_KNOWN = {_ARCHIVE: (8_458_043, "c9890a473a9769fda4bdf314aaf500dd")}
"""Its size in bytes and its MD5, as published by several public projects."""

_IDX_PREFIXES = {"train": "train", "test": "t10k"}
_TRAIN_ROWS_PER_VALIDATION_ROW = 12  # as in MNIST's 55,000 / 5,000
_HOMEPAGE = "http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html"


class NotMnist(tfds.core.GeneratorBasedBuilder):
    """Builder for `tfds.load("not_mnist")`, with a `test` split and, if the files have one, a `train` split.

    It reads the same files as `load`, and downloads the public archive if there are none.
    """

    name = "not_mnist"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Optional: {_ARCHIVE}, or a folder of its idx files."

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 1)),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                }
            ),
            supervised_keys=("image", "label"),
            homepage=_HOMEPAGE,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> Mapping:
        root = self.data_dir_root
        source = manual.find(self.name, _recognize, root, manual_dir(dl_manager))
        source = source or download(self.name, _FILES, root, dl_manager, _KNOWN)[_ARCHIVE]
        return {split: self._generate_examples(*rows) for split, rows in _read(source).items()}

    def _generate_examples(self, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, dict]]:
        for key, (image, label) in enumerate(zip(x, y, strict=True)):
            yield key, {"image": image, "label": label}


def load(data_dir: manual.PathLike | None = None) -> Dataset:
    """Loads NotMNIST; its test part serves as out-of-distribution inputs for MNIST.

    It is read from the first of the following that `manual.find` finds; if there is none, the archive is downloaded.

    * The idx files `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, plain or `.gz`, are the test part. If there
      are `train-...` files next to them, these are the training part, whose last twelfth is for validation.
    * A folder with PNG files `A/*.png ... J/*.png`, or with `notMNIST_small/A/*.png ...`: the test part.
    * The archive `notMNIST_small.tar.gz` of such a folder: the test part.

    The archive's URL is plain http, so a download is checked against the size and the MD5 that several public projects
    give; its author published neither. Manually placed files are checked only for their format.

    In the folder `downloads/manual`, which all data sets share, only names with `notMNIST` are searched for, because
    MNIST's own files are also called `t10k-...`.

    Args:
      data_dir: Root folder of TFDS' data; see `manual.data_directory`.

    Returns:
      A `Dataset` with uint8 images `(n, 28, 28, 1)` and int32 labels `(n,)`, 0 for A ... 9 for J.

    Raises:
      ConnectionError: If the files are missing and the download fails or does not give the known archive.
      ValueError: If a file is damaged or has another format.

    References:
      Y. Bulatov. notMNIST dataset, 2011, made from publicly available typefaces.
      http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html
    """
    # Reading the original files takes a second, so preparing them first would save nothing.
    source = manual.find("not_mnist", _recognize, data_dir)
    splits = _read(source or download("not_mnist", _FILES, data_dir, known=_KNOWN)[_ARCHIVE])
    empty = (np.zeros((0, SIZE, SIZE, 1), np.uint8), np.zeros(0, np.int32))
    x, y = splits.get("train", empty)
    held_out = len(x) - len(x) // _TRAIN_ROWS_PER_VALIDATION_ROW
    return Dataset(
        name="not_mnist",
        task="classification",
        train=(x[:held_out], y[:held_out]),
        validation=(x[held_out:], y[held_out:]),
        test=splits["test"],
        num_classes=len(CLASS_NAMES),
        quantization_levels=256,
        target_name="letter",
        class_names=CLASS_NAMES,
        description="NotMNIST, the letters A to J in many typefaces",
    )


def _recognize(folder: pathlib.Path) -> pathlib.Path | None:
    if not manual.is_shared(folder):
        if find_idx(folder, "t10k-images-idx3-ubyte"):
            return folder
        if (folder / "A").is_dir():
            return folder
    unpacked, archive = folder / "notMNIST_small", folder / _ARCHIVE
    if (unpacked / "A").is_dir():
        return unpacked
    return archive if archive.is_file() else None


def _read(source: pathlib.Path) -> dict[str, Split]:
    if not source.is_dir() or (source / "A").is_dir():
        parts = {"test": read_letter_images(source)}
    else:
        parts = {
            split: _read_idx_pair(source, prefix)
            for split, prefix in _IDX_PREFIXES.items()
            if find_idx(source, f"{prefix}-images-idx3-ubyte")
        }
    return {split: (x[..., np.newaxis], y.astype(np.int32)) for split, (x, y) in parts.items()}


def _read_idx_pair(folder: pathlib.Path, prefix: str) -> Split:
    images = find_idx(folder, f"{prefix}-images-idx3-ubyte")
    labels = find_idx(folder, f"{prefix}-labels-idx1-ubyte")
    if labels is None:
        raise ValueError(f"{folder} has {images.name} but no {prefix}-labels-idx1-ubyte[.gz]; wanted both.")
    x, y = read_idx(images, rank=3), read_idx(labels, rank=1)
    if x.shape != (len(y), SIZE, SIZE):
        raise ValueError(
            f"{images} has shape {x.shape}; wanted ({len(y)}, {SIZE}, {SIZE}), because {labels.name} has {len(y)} "
            "labels."
        )
    if len(y) and y.max() >= len(CLASS_NAMES):
        raise ValueError(f"{labels} has the label {y.max()}; wanted 0 ... {len(CLASS_NAMES) - 1}.")
    return x, y
