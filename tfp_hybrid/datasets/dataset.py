"""The container every loader returns."""

from __future__ import annotations

import dataclasses

import numpy as np

Split = tuple[np.ndarray, np.ndarray]
"""Inputs of shape `(n, ...)` and targets of shape `(n,)`, row by row."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A supervised data set in memory, ready for `model.fit(*dataset.train)`.

    Attributes:
        name: The name given to `load`.
        task: `"classification"` (int32 labels) or `"regression"` (float32 targets).
        train: Inputs `(n, ...)` and targets `(n,)` to learn from.
        validation: Rows held out of the training part, for choosing settings.
        test: Rows to report results on. A set that exists only for testing has empty `train` and
            `validation` parts, of shape `(0, ...)`.
        num_classes: Number of classes; labels are `0 ... num_classes - 1`. None for regression.
        quantization_levels: Number of values an integer input can take, `0 ... levels - 1`: what
            dequantization needs. None for continuous inputs.
        feature_names: A name for each input column, where columns have names.
        target_name: What the target is, with its unit in brackets if it has one.
        class_names: A name for each label.
        description: One sentence for reports: which data exactly, and how they were split.
    """

    name: str
    task: str
    train: Split
    validation: Split
    test: Split
    num_classes: int | None = None
    quantization_levels: int | None = None
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    class_names: tuple[str, ...] | None = None
    description: str = ""
