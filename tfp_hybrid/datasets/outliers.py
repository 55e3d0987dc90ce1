"""Out-of-distribution inputs: other data sets, and transformed rows of the same data set."""

from collections.abc import Callable

import numpy as np

from tfp_hybrid.datasets import loading, manual
from tfp_hybrid.datasets.dataset import Dataset


def load_outliers(
    name: str, dataset: Dataset, data_dir: manual.PathLike | None = None, seed: int = 0
) -> tuple[np.ndarray, np.ndarray | None]:
    """Loads or makes inputs that are out-of-distribution for a data set.

    Args:
      name: "noise", "inverted", "rotated" or "shuffled", which are made from `dataset`; or the name of another data
        set.
      dataset: The in-distribution `Dataset`.
      data_dir: Root folder of TFDS' data, as in `datasets.load`.
      seed: Random seed of "noise" and "shuffled".

    Returns:
      A pair of the inputs `(n, *event_shape)` and their labels `(n,)`. The labels are None unless the other data set
      has as many classes as `dataset`.

    Raises:
      ValueError: If the name is unknown, or the inputs have another shape or other quantization levels.
    """
    if name in TRANSFORMS:
        return TRANSFORMS[name](dataset, np.random.default_rng(seed)), None
    if name not in loading.NAMES:
        known = sorted(TRANSFORMS) + [known for known in loading.NAMES if known != dataset.name]
        raise ValueError(f"the out-of-distribution set {name!r} is unknown; wanted one of {', '.join(known)}.")
    other = loading.load(name, data_dir=data_dir, seed=seed)
    x, y = other.test
    if x.shape[1:] != dataset.test[0].shape[1:] or other.quantization_levels != dataset.quantization_levels:
        raise ValueError(
            f"the out-of-distribution set {name!r} has inputs of shape {x.shape[1:]} and quantization_levels "
            f"{other.quantization_levels}; wanted {dataset.test[0].shape[1:]} and {dataset.quantization_levels}, as in "
            f"{dataset.name}."
        )
    return x, y if other.num_classes == dataset.num_classes else None


def _noise(dataset, rng):
    """Returns uniform noise between the smallest and the largest training values."""
    x, shape = dataset.train[0], dataset.test[0].shape
    axes = tuple(range(x.ndim)) if dataset.quantization_levels else 0
    low, high = x.min(axes), x.max(axes)
    if (x == np.floor(x)).all():
        return rng.integers(low, high, shape, endpoint=True).astype(x.dtype)
    return rng.uniform(low, high, shape).astype(x.dtype)


def _inverted(dataset, rng):
    """Returns the test images with dark and light swapped."""
    if dataset.quantization_levels is None:
        raise ValueError(
            f"the out-of-distribution set 'inverted' needs images, but {dataset.name} has none. Use 'noise' or "
            "'shuffled'."
        )
    return dataset.quantization_levels - 1 - dataset.test[0]


def _rotated(dataset, rng):
    """Returns the test images rotated by 90 degrees."""
    shape = dataset.test[0].shape[1:]
    if dataset.quantization_levels is None or len(shape) != 3 or shape[0] != shape[1]:
        raise ValueError(
            f"the out-of-distribution set 'rotated' needs square images, but {dataset.name} has none. Use 'noise' or "
            "'shuffled'."
        )
    return np.rot90(dataset.test[0], axes=(1, 2)).copy()


def _shuffled(dataset, rng):
    """Returns the test rows with each column permuted independently."""
    return rng.permuted(dataset.test[0], axis=0)


TRANSFORMS: dict[str, Callable] = {
    "inverted": _inverted,
    "noise": _noise,
    "rotated": _rotated,
    "shuffled": _shuffled,
}
