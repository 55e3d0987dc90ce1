"""MNIST and FashionMNIST from the tensorflow-datasets catalogue."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from tfp_hybrid.datasets import manual
from tfp_hybrid.datasets.dataset import Dataset, Split
from tfp_hybrid.datasets.download import check_reachable, explain_failure

_VALIDATION = 5000


class _Entry(NamedTuple):
    title: str
    target_name: str
    class_names: tuple[str, ...]


_ENTRIES = {
    "mnist": _Entry("MNIST", "digit", tuple(str(label) for label in range(10))),
    "fashion_mnist": _Entry(
        "FashionMNIST",
        "article",
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
}


def load(name: str, data_dir: manual.PathLike | None = None) -> Dataset:
    """Loads MNIST or FashionMNIST; downloads and prepares it first if necessary.

    The training part is rows 0 ... 54,999 of the original training set, and the validation part is rows
    55,000 ... 59,999. The test part is the original test set of 10,000 rows.

    Args:
      name: `"mnist"` or `"fashion_mnist"`.
      data_dir: Root folder of TFDS' data; see `manual.data_directory`. The set is prepared there, or in the user's
        cache directory if `data_dir` is read-only.

    Returns:
      A `Dataset` with uint8 images `(n, 28, 28, 1)` and int32 labels `(n,)`.

    Raises:
      ConnectionError: If the set is not prepared and cannot be downloaded. You can then put the four original idx
        files into `<data_dir>/downloads/manual/<name>`.

    References:
      Y. LeCun, C. Cortes, C. J. C. Burges. The MNIST database of handwritten digits, 1998.
      H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking
      Machine Learning Algorithms. arXiv:1708.07747, 2017. MIT licence.
    """
    entry = _ENTRIES[name]
    builder = _prepared_builder(name, data_dir)
    x, y = _arrays(builder, "train")
    held_out = len(x) - _VALIDATION
    return Dataset(
        name=name,
        task="classification",
        train=(x[:held_out], y[:held_out]),
        validation=(x[held_out:], y[held_out:]),
        test=_arrays(builder, "test"),
        num_classes=10,
        quantization_levels=256,
        target_name=entry.target_name,
        class_names=entry.class_names,
        description=f"{entry.title}, the last {_VALIDATION:,} training rows held out to validate",
    )


def _arrays(builder: tfds.core.DatasetBuilder, split: str) -> Split:
    rows = builder.as_dataset(split=split, batch_size=-1)
    return rows["image"].numpy(), rows["label"].numpy().astype(np.int32)


def _prepared_builder(name: str, data_dir: manual.PathLike | None) -> tfds.core.DatasetBuilder:
    root, writable = manual.data_directory(data_dir), manual.writable_directory(data_dir)
    with _without_warnings():
        for folder in dict.fromkeys((root, writable)):
            builder = tfds.builder(name, data_dir=folder)
            if builder.is_prepared():
                return builder
    files = {url.rsplit("/", 1)[-1]: url for url in builder.url_infos}

    def recognize(folder: pathlib.Path) -> pathlib.Path | None:
        # The shared folder is skipped, because several data sets have files with these names.
        complete = all((folder / file).exists() for file in files)
        return folder if complete and not manual.is_shared(folder) else None

    placed = manual.find(name, recognize, data_dir)
    with explain_failure(name, files, data_dir):
        if placed is None:
            check_reachable(files.values(), writable / "downloads")
        config = tfds.download.DownloadConfig(manual_dir=placed or manual.folder_for(name, data_dir))
        builder.download_and_prepare(download_config=config)
    return builder


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Silences TFDS' warning that a set is not prepared yet, which is expected before a download."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
