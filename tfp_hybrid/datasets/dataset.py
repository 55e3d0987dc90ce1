"""`Dataset`, the container that every loader returns."""

from __future__ import annotations

import dataclasses

import numpy as np

Split = tuple[np.ndarray, np.ndarray]
"""Inputs `(n, ...)` and their targets `(n,)`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A supervised data set in memory, ready for `model.fit(*dataset.train)`.

    Attributes:
      name: Name of the data set, as passed to `load`.
      task: `"classification"` (int32 labels) or `"regression"` (float32 targets).
      train: Training inputs `(n, ...)` and targets `(n,)`.
      validation: Rows held out of the training set for choosing settings.
      test: Rows for reporting results. A set that is used only for testing has empty `train` and `validation` parts
        of shape `(0, ...)`.
      num_classes: Number of classes; labels are `0 ... num_classes - 1`. None for regression.
      quantization_levels: Number of values that an integer input can take, `0 ... levels - 1`, as needed for
        dequantization. None for continuous inputs.
      feature_names: Names of the input columns, or None if they have no names.
      target_name: Name of the target, with its unit in brackets if it has one.
      class_names: Names of the classes.
      missing_label: What stands for the label of a training row that has none; None if all have one.
      description: Which data these are and how they were split, for reports.
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
    missing_label: float | None = None
    description: str = ""
