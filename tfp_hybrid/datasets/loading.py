"""`load`: a data set by its name."""

from __future__ import annotations

from collections.abc import Callable

from tfp_hybrid.datasets import catalogue, digits, flights, manual, not_mnist, simulation
from tfp_hybrid.datasets.dataset import Dataset

_LOADERS: dict[str, Callable[[manual.PathLike | None, int], Dataset]] = {
    "digits": lambda data_dir, seed: digits.load(),
    "fashion_mnist": lambda data_dir, seed: catalogue.load("fashion_mnist", data_dir),
    "flights": lambda data_dir, seed: flights.load(data_dir),
    "mnist": lambda data_dir, seed: catalogue.load("mnist", data_dir),
    "not_mnist": lambda data_dir, seed: not_mnist.load(data_dir),
    "simulation": lambda data_dir, seed: simulation.load(seed),
}

NAMES = tuple(_LOADERS)
"""The names that `load` knows."""


def load(name: str, *, data_dir: manual.PathLike | None = None, seed: int = 0) -> Dataset:
    """Loads a data set into memory; downloads it first if necessary.

    >>> dataset = load("digits")
    >>> dataset.train[0].shape, dataset.quantization_levels
    ((1000, 8, 8, 1), 17)

    Args:
      name: One of `NAMES`.
      data_dir: Root folder of TFDS' data. Defaults to `$TFDS_DATA_DIR`, or `~/tensorflow_datasets` if that is not
        set. It may be read-only.
      seed: Random seed of a simulated set; ignored for the other sets.

    Returns:
      A `Dataset`.

    Raises:
      ValueError: If the name is unknown, or a file is damaged or incomplete.
      ConnectionError: If files are missing and cannot be downloaded. The message says which files to put where.
    """
    if name not in _LOADERS:
        raise ValueError(f"The data set {name!r} is unknown; wanted one of {', '.join(NAMES)}.")
    return _LOADERS[name](data_dir, seed)
