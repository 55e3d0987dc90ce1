"""The table of columns: which moved, and how far."""

import numpy as np
import pandas as pd

from tfp_hybrid.uncertainty.drift.marginals import Ranks
from tfp_hybrid.uncertainty.drift.observed import Observed

_TITLES = ("reference_mean", "new_mean", "shift", "cliffs_delta", "distance", "corrected_p_value")


def column_moments(observed: Observed) -> dict[str, tuple[float, float]]:
    """Returns a dictionary from the name of each column to its mean and standard deviation."""
    columns = {name: values for (group, name), values in observed.numbers.items() if group == "columns"}
    return {name: (values.mean(dtype=float), values.std(dtype=float)) for name, values in columns.items()}


def column_table(reference: dict[str, tuple[float, float]], new: Observed, tests: pd.DataFrame) -> pd.DataFrame:
    """Returns the table `DriftReport.columns`.

    Args:
      reference: The `column_moments` of the reference.
      new: The new inputs.
      tests: The table `DriftReport.tests`.
    """
    found = {}
    for test in tests.itertuples(index=False):
        if test.group != "columns":
            continue
        if test.test != Ranks.name:  # the second test of a column
            found[test.of][-1] = min(found[test.of][-1], test.corrected_p_value)
            continue
        mean, stddev = reference[test.of]
        new_mean = new.numbers["columns", test.of].mean(dtype=float)
        moved = new_mean - mean
        shift = moved / stddev if stddev else np.copysign(np.inf, moved) if moved else 0.0
        found[test.of] = [mean, new_mean, shift, test.effect_size, test.statistic, test.corrected_p_value]
    return pd.DataFrame(list(found.values()), list(found), list(_TITLES)).rename_axis("column")
