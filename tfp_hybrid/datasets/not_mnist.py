"""NotMNIST: the letters A to J in many typefaces, in the format of MNIST."""

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
"""Its size and MD5, as several public projects give them."""

_IDX_PREFIXES = {"train": "train", "test": "t10k"}
_VALIDATION_SHARE = 12  # one training row in twelve, as in MNIST's 55,000 / 5,000
_HOMEPAGE = "http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html"


class NotMnist(tfds.core.GeneratorBasedBuilder):
    """NotMNIST for `tfds.load("not_mnist")`: a `test` split, and `train` where there is one.

    Takes the files that `load` takes, and downloads the public archive if none are in place.
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
    """Loads NotMNIST, foremost its test part, as out-of-distribution inputs for MNIST.

    Read from the first of these that `manual.find` meets, else from a download of the last:

    * idx files `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, plain or `.gz`: the test
      part; `train-...` files beside them are the training part, its last twelfth for validation;
    * a folder with PNG files `A/*.png ... J/*.png`, or with `notMNIST_small/A/*.png ...`;
    * the archive `notMNIST_small.tar.gz` of such a folder. All its images are the test part.

    The archive's address is plain http, so what comes from there is compared with the size and the MD5 that several
    public projects give; its author published neither. Files that you put in place yourself are taken as they are,
    if they are whole and in their format.

    In the folder `downloads/manual` that all data sets share, only the names with `notMNIST` are
    looked for: MNIST's own files are called `t10k-...` as well.

    Args:
        data_dir: See `manual.data_directory`.

    Returns:
        A `Dataset` with uint8 images `(n, 28, 28, 1)` and int32 labels `(n,)`, 0 for A ... 9 for J.

    Raises:
        ConnectionError: No file is in place and the download fails, or is not the known archive.
        ValueError: A file is damaged or not in its format.

    References:
        Y. Bulatov. notMNIST dataset, 2011, made from publicly available typefaces.
        http://yaroslavvb.blogspot.com/2011/09/notmnist-dataset.html
    """
    # The files are read as they are: it takes a second, so preparing them first saves nothing.
    source = manual.find("not_mnist", _recognize, data_dir)
    splits = _read(source or download("not_mnist", _FILES, data_dir, known=_KNOWN)[_ARCHIVE])
    empty = (np.zeros((0, SIZE, SIZE, 1), np.uint8), np.zeros(0, np.int32))
    x, y = splits.get("train", empty)
    held_out = len(x) - len(x) // _VALIDATION_SHARE
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
        raise ValueError(f"{folder} has {images.name}, but no {prefix}-labels-idx1-ubyte[.gz]")
    x, y = read_idx(images, rank=3), read_idx(labels, rank=1)
    if x.shape != (len(y), SIZE, SIZE):
        raise ValueError(
            f"{images} has shape {x.shape}, wanted ({len(y)}, {SIZE}, {SIZE}) to go with "
            f"the {len(y)} labels of {labels.name}"
        )
    if len(y) and y.max() >= len(CLASS_NAMES):
        raise ValueError(f"{labels} has the label {y.max()}, wanted 0 ... {len(CLASS_NAMES) - 1}")
    return x, y
