"""Out-of-distribution inputs: other data sets, and transformed rows of the same one."""

import numpy as np

from tfp_hybrid import datasets


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
    """Test images on their side: turned by a quarter."""
    shape = dataset.test[0].shape[1:]
    if dataset.quantization_levels is None or len(shape) != 3 or shape[0] != shape[1]:
        raise ValueError(f"'rotated' wants square images; {dataset.name} has none. Take 'noise' or 'shuffled'.")
    return np.rot90(dataset.test[0], axes=(1, 2)).copy()


def _shuffled(dataset, rng):
    """Test rows whose entries come from different rows: each column is permuted on its own."""
    return rng.permuted(dataset.test[0], axis=0)


TRANSFORMS = {"inverted": _inverted, "noise": _noise, "rotated": _rotated, "shuffled": _shuffled}


def load_outliers(name: str, dataset, data_dir=None, seed: int = 0):
    """Inputs that are foreign to `dataset`, and their labels if they have any of its kind.

    Args:
      name: "noise", "inverted", "rotated" or "shuffled" (made from `dataset`), or the name of another data set.
      dataset: the in-distribution `Dataset`.
      data_dir: where data sets lie.
      seed: of the noise.

    Returns:
      x, and y or None.

    Raises:
      ValueError: for an unknown name, or inputs of another shape.
    """
    if name in TRANSFORMS:
        return TRANSFORMS[name](dataset, np.random.default_rng(seed)), None
    if name not in datasets.NAMES:
        known = sorted(TRANSFORMS) + [known for known in datasets.NAMES if known != dataset.name]
        raise ValueError(f"--ood {name!r} is unknown; wanted one of {', '.join(known)}.")
    other = datasets.load(name, data_dir=data_dir, seed=seed)
    x, y = other.test
    if x.shape[1:] != dataset.test[0].shape[1:] or other.quantization_levels != dataset.quantization_levels:
        raise ValueError(
            f"--ood {name!r} has inputs of shape {x.shape[1:]}; wanted {dataset.test[0].shape[1:]}, as {dataset.name} "
            "has."
        )
    return x, y if other.num_classes == dataset.num_classes else None
