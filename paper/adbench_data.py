"""The twenty sets of the one-class benchmark, as files of ADBench, and how their rows are divided."""

import dataclasses
import pathlib

import numpy as np

SETS = {
    "ALOI": "1_ALOI",
    "annthyroid": "2_annthyroid",
    "campaign": "5_campaign",
    "cardio": "6_cardio",
    "cover": "10_cover",
    "fault": "12_fault",
    "http": "16_http",
    "landsat": "19_landsat",
    "letter": "20_letter",
    "magic.gamma": "22_magic.gamma",
    "mammography": "23_mammography",
    "mnist": "24_mnist",
    "optdigits": "26_optdigits",
    "pendigits": "28_pendigits",
    "satimage-2": "31_satimage-2",
    "shuttle": "32_shuttle",
    "SpamBase": "35_SpamBase",
    "thyroid": "38_thyroid",
    "vowels": "40_vowels",
    "Wilt": "44_Wilt",
}
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data" / "adbench"
SOURCE = "github.com/Minqi824/ADBench, adbench/datasets/Classical"


@dataclasses.dataclass(frozen=True)
class Split:
    """The rows of one split, standardized by the mean and the standard deviation of the training rows.

    Columns that are constant in the training rows are left out.

    Attributes:
      train: Normal rows, `(n, d)`, float32.
      test: The other normal rows, `(m, d)`, float32.
      anomalies: The anomalies, `(k, d)`, float32.
      units: What a step of 1 in each column has become, `(d,)`, if all columns of the set are integers; otherwise 0.
    """

    train: np.ndarray
    test: np.ndarray
    anomalies: np.ndarray
    units: np.ndarray


def read(folder: pathlib.Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a set.

    Args:
      folder: The folder with the files of ADBench.
      name: The set, one of `SETS`.

    Returns:
      The rows, `(n, d)`, float64, and whether each of them is an anomaly, `(n,)`.

    Raises:
      ValueError: If the file is not there.
    """
    path = folder / f"{SETS[name]}.npz"
    if not path.is_file():
        raise ValueError(f"--data-dir {folder} has no {path.name}; wanted the files of {SOURCE}.")
    with np.load(path) as file:
        return file["X"].astype("float64"), file["y"].astype(bool)


def split(x: np.ndarray, anomalous: np.ndarray, seed: int, train_rows: int, test_rows: int) -> Split:
    """Divides the normal rows at random into halves, for training and for the test.

    Rows that are equal stay together, so that no normal test row is a training row; the halves may differ by as much.

    Args:
      x: The rows, `(n, d)`.
      anomalous: Whether each of them is an anomaly, `(n,)`.
      seed: The seed of the division.
      train_rows: How many rows of the first half are kept at most.
      test_rows: How many rows of the second half are kept at most; all anomalies are.
    """
    rng = np.random.default_rng(seed)
    normal = x[~anomalous]
    _, group = np.unique(normal, axis=0, return_inverse=True)
    order = np.argsort(rng.permutation(group.max() + 1)[group.ravel()], kind="stable")  # equal rows beside each other
    groups = group.ravel()[order]
    middle = len(order) // 2
    while middle < len(order) and groups[middle] == groups[middle - 1]:
        middle += 1
    train, test = (rng.permutation(part) for part in (order[:middle], order[middle:]))
    train, test = normal[train[:train_rows]], normal[test[:test_rows]]
    varies = np.ptp(train, axis=0) > 0
    center, scale = train.mean(0)[varies], train.std(0)[varies]
    parts = (((rows[:, varies] - center) / scale).astype("float32") for rows in (train, test, x[anomalous]))
    return Split(*parts, units=1 / scale if is_integer(normal) else np.zeros_like(scale))


def is_integer(rows: np.ndarray) -> bool:
    """Returns whether all entries are integers."""
    return bool((rows == np.round(rows)).all())
