"""`DriftReport`: what the tests of a batch found."""

import dataclasses

import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class DriftReport:
    """The comparison of a batch of inputs with a reference.

    Attributes:
      rows: The number of new inputs.
      reference_rows: The number of reference inputs.
      p_value: The probability that any of the tests would find as much if nothing had changed.
      tests: A table with a row for each test and the columns "group" ("z", "scores", "response", "columns" or
        "classifier"), "of" (what is compared), "test", "statistic" (the distance between batch and reference, as the
        test defines it), "p_value" (of this test alone), "effect_size" (0 for no change: Cliff's delta for KS, without
        holes; the total variation distance for chi-square, 2 AUC - 1 for the classifier, and the distance beyond chance
        for z) and "corrected_p_value" (for the number of tests; the smallest is `p_value`).
      columns: A table with a row for each column of x, indexed by its name, in their order: "reference_mean" and
        "new_mean", in the unit of the column, of rows without a hole; "shift", their difference in standard deviations
        of the reference; "cliffs_delta", the probability that a new value is above a reference value, minus that it is
        below, without holes; "distance", the largest between the distribution functions, with holes as a value below
        all others; "reference_holes" and "new_holes", the shares of rows with a hole; and "corrected_p_value", the
        smallest of its tests. A category has no mean, shift or Cliff's delta, which are NaN, and its distance is the
        total variation distance. Empty if x is not a vector.
    """

    rows: int
    reference_rows: int
    p_value: float
    tests: pd.DataFrame
    columns: pd.DataFrame

    def drifted(self, significance: float = 0.05) -> bool:
        """Returns whether the p-value is below `significance`, the false-alarm rate of all tests together."""
        return self.p_value < significance
