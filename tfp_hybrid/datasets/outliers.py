"""Out-of-distribution inputs: other data sets, and transformed rows of the same one."""

from collections.abc import Callable

import numpy as np

from tfp_hybrid.datasets import loading
from tfp_hybrid.datasets.dataset import Dataset


def load_outliers(name: str, dataset: Dataset, data_dir=None, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Inputs that are out-of-distribution for `dataset`, and their labels if they have the same classes.

    Args:
      name: "noise", "inverted", "rotated" or "shuffled" (made from `dataset`), or the name of another data set.
      dataset: the in-distribution `Dataset`.
      data_dir: root folder of TFDS' data, as in `datasets.load`.
      seed: random seed of "noise" and "shuffled".

    Returns:
      x, `(n, *event_shape)`; and y, `(n,)`, or None.

    Raises:
      ValueError: if the name is unknown, or the inputs have another shape.
    """
    if name in TRANSFORMS:
        return TRANSFORMS[name](dataset, np.random.default_rng(seed)), None
    if name not in loading.NAMES:
        known = sorted(TRANSFORMS) + [known for known in loading.NAMES if known != dataset.name]
        raise ValueError(f"--ood {name!r} is unknown; wanted one of {', '.join(known)}.")
    other = loading.load(name, data_dir=data_dir, seed=seed)
    x, y = other.test
    if x.shape[1:] != dataset.test[0].shape[1:] or other.quantization_levels != dataset.quantization_levels:
        raise ValueError(
            f"--ood {name!r} has inputs of shape {x.shape[1:]}; wanted {dataset.test[0].shape[1:]}, as {dataset.name} "
            "has."
        )
    return x, y if other.num_classes == dataset.num_classes else None


def _noise(dataset, rng):
    """Each entry drawn uniformly between the smallest and the largest one of the training rows."""
    x, shape = dataset.train[0], dataset.test[0].shape
    axes = tuple(range(x.ndim)) if dataset.quantization_levels else 0
    low, high = x.min(axes), x.max(axes)
    if (x == np.floor(x)).all():
        return rng.integers(low, high, shape, endpoint=True).astype(x.dtype)
    return rng.uniform(low, high, shape).astype(x.dtype)


def _inverted(dataset, rng):
    """Test images with dark and light swapped."""
    if dataset.quantization_levels is None:
        raise ValueError(f"'inverted' wants images; {dataset.name} has none. Take 'noise' or 'shuffled'.")
    return dataset.quantization_levels - 1 - dataset.test[0]


def _rotated(dataset, rng):
    """Test images rotated by 90 degrees."""
    shape = dataset.test[0].shape[1:]
    if dataset.quantization_levels is None or len(shape) != 3 or shape[0] != shape[1]:
        raise ValueError(f"'rotated' wants square images; {dataset.name} has none. Take 'noise' or 'shuffled'.")
    return np.rot90(dataset.test[0], axes=(1, 2)).copy()


def _shuffled(dataset, rng):
    """Test rows with each column permuted independently."""
    return rng.permuted(dataset.test[0], axis=0)


TRANSFORMS: dict[str, Callable] = {
    "inverted": _inverted,
    "noise": _noise,
    "rotated": _rotated,
    "shuffled": _shuffled,
}
