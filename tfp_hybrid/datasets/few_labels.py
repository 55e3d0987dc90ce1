"""`hide_labels`: a data set of which few training rows have a label, for experiments."""

import dataclasses

import numpy as np

from tfp_hybrid import arguments
from tfp_hybrid.datasets.dataset import Dataset


def hide_labels(dataset: Dataset, count: int, seed: int = 0) -> Dataset:
    """Hides the labels of all training rows but a few, which are drawn at random.

    Of classes, each keeps as many labels as any other, or one more.

    Args:
      dataset: The data set. Its validation and test rows stay as they are.
      count: How many training rows keep their label: at least one for each class, and not all.
      seed: Random seed of the draw.

    Returns:
      The data set, with -1 in place of hidden classes and NaN in place of hidden numbers.

    Raises:
      ValueError: If `dataset` is none, if `count` is not as above, or if a class has too few rows.
    """
    if not isinstance(dataset, Dataset):
        raise ValueError(f"dataset is a {type(dataset).__name__}; wanted a `Dataset`, as `datasets.load` returns it.")
    x, y = dataset.train
    least = dataset.num_classes or 1
    arguments.check_count(count, "count", least)
    if count >= len(y):
        raise ValueError(f"count is {count}; wanted fewer labels than the {len(y)} training rows.")
    rng = np.random.default_rng(seed)
    if dataset.num_classes is None:
        kept, missing = rng.permutation(len(y))[:count], np.nan
    else:
        extra = rng.permutation(dataset.num_classes) < count % dataset.num_classes
        wanted = count // dataset.num_classes + extra
        rows = [np.flatnonzero(y == label) for label in range(dataset.num_classes)]
        for label, (own, number) in enumerate(zip(rows, wanted, strict=True)):
            if len(own) < number:
                raise ValueError(f"count is {count}, {number} a class, but the class {label} has {len(own)} rows.")
        kept = np.concatenate([rng.permutation(own)[:number] for own, number in zip(rows, wanted, strict=True)])
        missing = -1
    hidden = np.full_like(y, missing)
    hidden[kept] = y[kept]
    description = f"{dataset.description}; {count} of {len(y)} training rows have a label (draw {seed})"
    return dataclasses.replace(dataset, train=(x, hidden), missing_label=missing, description=description)
