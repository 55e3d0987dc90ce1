"""The density benchmarks of Papamakarios et al. 2017: POWER, GAS, HEPMASS, MINIBOONE and BSDS300."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import tarfile
from collections.abc import Callable

import numpy as np
import pandas as pd

from tfp_hybrid import files
from tfp_hybrid.datasets import manual
from tfp_hybrid.datasets.download import download

_ARCHIVE = "data.tar.gz"
_URL = f"https://zenodo.org/record/1161203/files/{_ARCHIVE}"
_MOST_CORRELATED = 0.98
_MOST_REPEATED = 5
_Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class DensityData:
    """Rows for training, validation and testing of p(x), without targets.

    Attributes:
      name: Name of the set, as passed to `load_density`.
      train: Training rows `(n, d)`, float32.
      validation: Rows for choosing settings.
      test: Rows for reporting results.
      description: What was done with the rows of the file.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    description: str


@dataclasses.dataclass(frozen=True)
class _Entry:
    paths: tuple[str, ...]
    read: Callable[..., _Arrays]
    description: str


def load_density(name: str, *, data_dir: manual.PathLike | None = None) -> DensityData:
    """Loads one of the sets on which flows are compared, preprocessed and split as in the paper.

    The files are those of the paper's archive, data.tar.gz (800 MB): either the archive itself, or its content, in
    `<data_dir>/downloads/manual/density`; it is downloaded otherwise. Figures compare with published ones, which are
    mean test log-likelihoods in nats of the rows as they are here.

    A pickle can run any code when it is read, so the one of GAS is not read. The error says how you can convert it.

    Args:
      name: `"power"`, `"gas"`, `"hepmass"`, `"miniboone"` or `"bsds300"`.
      data_dir: Root folder of TFDS' data; see `datasets.load`.

    Returns:
      A `DensityData`.

    Raises:
      ValueError: If the name is unknown; if a file does not have the columns or the sets that it should; or for GAS, if
        there is its pickle only.
      ConnectionError: If the files are missing and cannot be downloaded. The message says which to put where.

    References:
      Papamakarios, Pavlakou and Murray 2017, "Masked Autoregressive Flow for Density Estimation", section 4.2 and
      appendix D. The archive: doi:10.5281/zenodo.1161203.
    """
    if name not in _SETS:
        raise ValueError(f"The data set {name!r} is unknown; wanted one of {', '.join(_SETS)}.")
    entry = _SETS[name]
    folder = _find(entry.paths, data_dir) or _extract(entry.paths, data_dir)
    arrays = entry.read(*(folder / path for path in entry.paths))
    train, validation, test = (np.asarray(rows, np.float32) for rows in arrays)
    return DensityData(name, train, validation, test, entry.description)


def _find(paths, data_dir):
    def recognize(folder: pathlib.Path) -> pathlib.Path | None:
        for root in (folder, folder / "data"):
            if all((root / path).is_file() or _pickle(root / path).is_file() for path in paths):
                return root
        return None

    return manual.find("density", recognize, data_dir)


def _extract(paths, data_dir):
    """Extracts files of the archive, which is downloaded unless it is there, and returns their folder."""
    archive = manual.find("density", _archive_in, data_dir)
    if archive is None:
        archive = download("density", {_ARCHIVE: _URL}, data_dir)[_ARCHIVE]
    folder, wanted = manual.folder_for("density", data_dir), {str(_source(path)) for path in paths}
    with tarfile.open(archive) as content:
        for member in content:
            path = member.name.removeprefix("./").removeprefix("data/")
            if member.isfile() and path in wanted:
                wanted.remove(path)
                with files.replacing(folder / path) as beside, beside.open("wb") as file:
                    shutil.copyfileobj(content.extractfile(member), file)
    if wanted:
        raise ValueError(f"{archive} lacks {', '.join(sorted(wanted))}; wanted the archive at {_URL}.")
    return folder


def _archive_in(folder):
    return folder / _ARCHIVE if (folder / _ARCHIVE).is_file() and not manual.is_shared(folder) else None


def _pickle(path):
    return path.with_suffix(".pickle")


def _source(path):
    """The path in the archive of a file that is read."""
    path = pathlib.PurePosixPath(path)
    return _pickle(path) if path.suffix == ".parquet" else path


def _read_power(path: pathlib.Path) -> _Arrays:
    """Shuffled; without columns 1 and 3; with uniform noise as wide as the steps of a column, but for the last."""
    rng, rows = np.random.RandomState(42), _array(path, columns=8)
    rng.shuffle(rows)
    rows = np.delete(rows, [1, 3], axis=1)
    voltage, gap = 0.01 * rng.rand(len(rows), 1), 0.001 * rng.rand(len(rows), 1)  # in the paper's order of draws
    meters = rng.rand(len(rows), 3)
    rows[:, :5] += np.hstack([gap, voltage, meters])
    return _standardized(*_split(rows))


def _read_gas(path: pathlib.Path) -> _Arrays:
    """Without three columns, and without one of each two columns whose correlation is above 0.98."""
    if not path.is_file():
        raise ValueError(
            f"{_pickle(path)} is a pickle, which can run any code when it is read; wanted {path.name} beside it. If "
            f"you trust the file, make it by `pandas.read_pickle({str(_pickle(path))!r}).to_parquet({str(path)!r})`."
        )
    table = pd.read_parquet(path)
    unwanted = ["Meth", "Eth", "Time"]
    if not set(unwanted) <= set(table):
        raise ValueError(
            f"{path} has the columns {', '.join(map(str, table))}; wanted {', '.join(unwanted)} among them."
        )
    rows = table.drop(columns=unwanted).to_numpy(float)
    while (repeated := (np.corrcoef(rows.T) > _MOST_CORRELATED).sum(0) > 1).any():
        rows = np.delete(rows, np.argmax(repeated), axis=1)
    # By all rows, those of the test part included, as published.
    return _split((rows - rows.mean(0)) / rows.std(0, ddof=1))


def _read_hepmass(train_path: pathlib.Path, test_path: pathlib.Path) -> _Arrays:
    """Signal alone, standardized; without columns whose smallest value is there more than five times."""
    train, test = (_signal(path) for path in (train_path, test_path))
    test = test[:, :-1]  # the file has a column too many
    if train.shape[1] != test.shape[1]:
        raise ValueError(
            f"{test_path} has {test.shape[1]} columns of signal, but {train_path} has {train.shape[1]}; wanted as "
            "many, after the last one of the former is left out."
        )
    mean, stddev = train.mean(0), train.std(0, ddof=1)
    kept = (train == train.min(0)).sum(0) <= _MOST_REPEATED
    train, test = (((rows - mean) / stddev)[:, kept] for rows in (train, test))
    return *_without_last_tenth(train), test


def _signal(path):
    rows = pd.read_csv(path, index_col=False).to_numpy(float)
    return rows[rows[:, 0] == 1, 1:]


def _read_miniboone(path: pathlib.Path) -> _Arrays:
    return _standardized(*_split(_array(path)))


def _read_bsds300(path: pathlib.Path) -> _Arrays:
    import h5py

    with h5py.File(path, "r") as file:
        lacking = [part for part in ("train", "validation", "test") if part not in file]
        if lacking:
            raise ValueError(f"{path} lacks {', '.join(lacking)}; wanted train, validation and test.")
        return file["train"][:], file["validation"][:], file["test"][:]


def _array(path, columns=None):
    rows = np.load(path, allow_pickle=False).astype(float)
    if rows.ndim != 2 or columns not in (None, rows.shape[1]):
        raise ValueError(f"{path} has the shape {rows.shape}; wanted ('n', {columns or 'd'}).")
    return rows


def _split(rows):
    """The last tenth for testing, and the last tenth of the others for validation."""
    others, test = _without_last_tenth(rows)
    return *_without_last_tenth(others), test


def _without_last_tenth(rows):
    end = len(rows) - int(0.1 * len(rows))
    return rows[:end], rows[end:]


def _standardized(train, validation, test):
    """By training and validation rows, as published."""
    seen = np.concatenate([train, validation])
    mean, stddev = seen.mean(0), seen.std(0)
    return tuple((rows - mean) / stddev for rows in (train, validation, test))


_SETS = {
    "power": _Entry(
        ("power/data.npy",), _read_power, "household power, 6 columns, with noise, standardized by the rows before test"
    ),
    "gas": _Entry(("gas/ethylene_CO.parquet",), _read_gas, "16 gas sensors, 8 columns kept, standardized by all rows"),
    "hepmass": _Entry(
        ("hepmass/1000_train.csv", "hepmass/1000_test.csv"),
        _read_hepmass,
        "signal of particle collisions, columns without repeated values, standardized by the rows before test",
    ),
    "miniboone": _Entry(
        ("miniboone/data.npy",), _read_miniboone, "neutrino events, 43 columns, standardized by the rows before test"
    ),
    "bsds300": _Entry(("BSDS300/BSDS300.hdf5",), _read_bsds300, "patches of 8 x 8 grey pixels without the last one"),
}
