"""The table of columns: which moved, and how far."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfp_hybrid.uncertainty.drift.marginals import Ranks
from tfp_hybrid.uncertainty.drift.observed import Observed

_TITLES = (
    "reference_mean", "new_mean", "shift", "cliffs_delta", "distance", "reference_holes", "new_holes",
    "corrected_p_value",
)  # fmt: skip
_NO_ORDER = dict.fromkeys(("reference_mean", "new_mean", "shift", "cliffs_delta"), np.nan)


def column_moments(observed: Observed) -> dict[str, tuple[float, float, float]]:
    """Returns a dictionary from each column's name to its mean and standard deviation, and its share of holes."""
    columns = {name: values for (group, name), values in observed.numbers.items() if group == "columns"}
    return {name: _moments(values) for name, values in columns.items()}


def column_table(
    reference: dict[str, tuple[float, float, float]], new: Observed, tests: pd.DataFrame, categories: Sequence[str] = ()
) -> pd.DataFrame:
    """Returns the table `DriftReport.columns`.

    Args:
      reference: The `column_moments` of the reference.
      new: The new inputs.
      tests: The table `DriftReport.tests`.
      categories: The names of the columns whose numbers are codes of categories.
    """
    found = {}
    for test in tests.itertuples(index=False):
        if test.group != "columns":
            continue
        if test.test != Ranks.name:  # the second test of a column
            row = found[test.of]
            row["corrected_p_value"] = min(row["corrected_p_value"], test.corrected_p_value)
            if test.of in categories:
                row |= _NO_ORDER | {"distance": test.effect_size}
            continue
        mean, stddev, holes = reference[test.of]
        new_mean, _, new_holes = _moments(new.numbers["columns", test.of])
        moved = new_mean - mean
        with np.errstate(divide="ignore"):
            shift = np.divide(moved, stddev) if moved else 0.0
        numbers = mean, new_mean, shift, test.effect_size, test.statistic, holes, new_holes, test.corrected_p_value
        found[test.of] = dict(zip(_TITLES, numbers, strict=True))
    return pd.DataFrame(list(found.values()), list(found), list(_TITLES)).rename_axis("column")


def _moments(values):
    """The mean and standard deviation of the numbers that are no holes, NaN without any; and the share of holes."""
    present = values[~np.isnan(values)]
    holes = 1 - len(present) / len(values)
    return (present.mean(dtype=float), present.std(dtype=float), holes) if len(present) else (np.nan, np.nan, holes)
