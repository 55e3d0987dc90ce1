"""Distances between a batch of numbers, or of classes, and those of a reference."""

import numpy as np

_RARE = 0.01
_FEW = 20
_BELOW_HOLES = -1.0  # what no other row has; the distance is the same as with 0


class Ranks:
    """The Kolmogorov-Smirnov distance: the largest between the distribution functions, from 0 to 1.

    A row is represented by the fractions of reference rows below it, and below or equal to it, so that ties and
    infinite numbers count as they are. A hole, NaN, counts as a value of its own below all numbers: the distance is at
    least the difference between the shares of holes.

    Args:
      reference: Numbers of the reference, `(n,)`, with NaN in holes.
    """

    name = "KS"

    def __init__(self, reference: np.ndarray):
        self._sorted = np.sort(reference[~np.isnan(reference)])
        self._count, self._holes = len(reference), len(reference) - len(self._sorted)

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Returns the representation of rows, `(n, 2)`; a hole has a negative fraction below it, for `effect`."""
        below = np.stack([np.searchsorted(self._sorted, values, side=side) for side in ("left", "right")], -1)
        represented = (self._holes + below).astype("float32") / self._count
        represented[np.isnan(values)] = _BELOW_HOLES, self._holes / self._count
        return represented

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Returns the distance of each batch from the reference, `(batches,)`, from `(batches, m, 2)`."""
        count = rows.shape[1]
        steps = np.arange(count + 1, dtype="float32") / count
        left, right = (np.sort(rows[..., i], axis=1) for i in (0, 1))
        return np.maximum((steps[1:] - right).max(1), (left - steps[:-1]).max(1)).clip(0)

    def effect(self, rows: np.ndarray, distance: float, by_chance: float) -> float:
        """Returns Cliff's delta: the probability that a new number is above a reference one, minus that it is below.

        Holes do not count. It is 0 if there are no others.
        """
        present = rows[rows[:, 0] != _BELOW_HOLES].astype(float)
        if not len(present) or self._holes == self._count:
            return 0.0
        share = self._holes / self._count
        return float(((present - share) / (1 - share)).sum(-1).mean() - 1)


class Shares:
    """The chi-square distance between the shares of classes, sqrt(sum_k (o_k - p_k)^2 / p_k) for shares o and p.

    Holes, NaN, are a class. Classes with a share below 1 % in the reference are one class together, with all that the
    reference lacks; it counts as if its share were at least 1 %, so that a single row of an unseen class is not drift.

    Args:
      reference: Classes of the reference, `(n,)`.
    """

    name = "chi-square"

    def __init__(self, reference: np.ndarray):
        values, counts = np.unique(_holes_as_numbers(reference), return_counts=True)
        shares = counts / len(reference)
        self._values = values[shares >= _RARE]
        kept = shares[shares >= _RARE]
        self._shares = np.r_[kept, max(0.0, 1 - kept.sum())]
        self._weights = 1 / np.maximum(self._shares, _RARE)

    def rows(self, values: np.ndarray) -> np.ndarray:
        """Returns the number of the class of each row, `(n,)`."""
        values = _holes_as_numbers(values)
        place = np.searchsorted(self._values, values)
        found = np.append(self._values, np.nan)[place] == values
        return np.where(found, place, len(self._values)).astype("int16")

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Returns the distance of each batch from the reference, `(batches,)`, from `(batches, m)`."""
        observed = np.stack([(rows == k).mean(1) for k in range(len(self._shares))], -1)
        return np.sqrt(((observed - self._shares) ** 2 * self._weights).sum(-1))

    def effect(self, rows: np.ndarray, distance: float, by_chance: float) -> float:
        """Returns the total variation distance: the share of rows that would have to change their class, 0 to 1."""
        observed = np.bincount(rows.ravel(), minlength=len(self._shares)) / rows.size
        return float(np.abs(observed - self._shares).sum() / 2)


def are_classes(values: np.ndarray) -> bool:
    """Returns whether numbers are whole and have few values, so that `Shares` applies to them; NaN does not count."""
    values = values[~np.isnan(values)]
    return bool(np.isfinite(values).all() and (values == np.floor(values)).all() and len(np.unique(values)) <= _FEW)


def _holes_as_numbers(values):
    return np.where(np.isnan(values), -np.inf, values)
