"""US flights: arrival delays and eight attributes."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from tfp_hybrid.datasets import manual
from tfp_hybrid.datasets.dataset import Dataset, Split
from tfp_hybrid.datasets.download import download, manual_dir
from tfp_hybrid.datasets.flight_tables import (
    FEATURES,
    TARGET,
    FlightTable,
    read_composite,
    read_data_expo,
)

_DATAVERSE = "https://dataverse.harvard.edu/api/access/datafile/:persistentId?persistentId="
_FILES = {
    "2008.csv.bz2": f"{_DATAVERSE}doi:10.7910/DVN/HG7NV7/EIR0RA",
    "plane-data.csv": f"{_DATAVERSE}doi:10.7910/DVN/HG7NV7/XXSL8A",
}
_COMPOSITE = "bts_8attr.parquet"
_TRAIN_2008, _TEST = 5_000_000, 100_000
_LAST_TRAIN_YEAR = 2016
_VALIDATION_STEP = 20


class _Source(NamedTuple):
    config: str
    paths: tuple[pathlib.Path, ...]


class Flights(tfds.core.GeneratorBasedBuilder):
    """Builder for `tfds.load("flights/data_expo_2008")` and `tfds.load("flights/bts_composite")`.

    It has the splits `train`, `validation` and `test`, as in `load`. Each example is a flight with `attributes`, a
    vector of the eight attributes, and `arr_delay` in minutes.
    """

    name = "flights"
    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Optional: {' and '.join(_FILES)}, or {_COMPOSITE}."
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name="data_expo_2008", description="The year 2008 of the ASA Data Expo 2009."),
        tfds.core.BuilderConfig(name="bts_composite", description=f"A manually placed table {_COMPOSITE}."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "attributes": tfds.features.Tensor(shape=(len(FEATURES),), dtype=np.float32),
                    "arr_delay": tfds.features.Scalar(dtype=np.float32),
                }
            ),
            supervised_keys=("attributes", "arr_delay"),
            homepage="https://doi.org/10.7910/DVN/HG7NV7",
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> Mapping:
        config, root = self.builder_config.name, self.data_dir_root
        source = manual.find(self.name, _RECOGNIZERS[config], root, manual_dir(dl_manager))
        if source is None and config == "bts_composite":
            raise FileNotFoundError(
                f"{_COMPOSITE} was not found. Put {_COMPOSITE} into {manual.folder_for(self.name, root)}."
            )
        splits, _ = _read(source or _download(root, dl_manager))
        return {split: self._generate_examples(*rows) for split, rows in splits.items()}

    def _generate_examples(self, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[int, dict]]:
        for key, (attributes, delay) in enumerate(zip(x, y, strict=True)):
            yield key, {"attributes": attributes, "arr_delay": delay}


def load(data_dir: manual.PathLike | None = None) -> Dataset:
    """Loads flights with the eight attributes of the paper and their arrival delays in minutes.

    The flights are read from the first folder of `manual.find` that has one of the following; if there is none, 2008
    is downloaded.

    * `2008.csv` or `2008.csv.bz2`, and `plane-data.csv`, of the ASA Data Expo 2009, the data of the paper. Flights are
      sorted by date; those of the same day keep the order of the file. The first 5,000,000 complete rows are for
      training and the next 100,000 for testing. If the file has fewer rows, the last 2 % (at most 100,000) are for
      testing and all rows before them for training.
    * `bts_8attr.parquet` with the columns of `FEATURES`, Year and ArrDelay: any collection of reports of the Bureau of
      Transportation Statistics. Rows up to the end of 2016 are for training and the next 100,000 for testing.

    Every 20th training row is held out for validation. Rows that lack an attribute or the delay, such as cancelled
    flights, are dropped; `description` gives their number.

    Args:
      data_dir: Root folder of TFDS' data; see `manual.data_directory`.

    Returns:
      A `Dataset` with float32 inputs `(n, 8)` in the units of the file (times of day as hhmm numbers, AirTime in
      minutes, Distance in miles, PlaneAge in years) and float32 targets `(n,)`.

    Raises:
      ConnectionError: If the files are missing and cannot be downloaded.
      ValueError: If a file is damaged, lacks columns, or has no rows for training or testing.

    References:
      J. Hensman, N. Fusi, N. D. Lawrence. Gaussian Processes for Big Data. UAI 2013.
      Data Expo 2009: Airline on time data. Harvard Dataverse, 2008. doi:10.7910/DVN/HG7NV7. CC0;
      from public reports of the US Bureau of Transportation Statistics.
    """
    # Reading the table takes a second for two million rows. Reading rows that the builder has prepared is far slower,
    # at about 25,000 rows per second.
    source = _find(data_dir) or _download(data_dir)
    splits, description = _read(source)
    return Dataset(
        name="flights",
        task="regression",
        **splits,
        feature_names=FEATURES,
        target_name=f"{TARGET} [minutes]",
        description=description,
    )


def _recognize_data_expo(folder: pathlib.Path) -> _Source | None:
    for file in ("2008.csv", "2008.csv.bz2"):
        if (folder / file).is_file():
            planes = folder / "plane-data.csv"
            if not planes.is_file():
                raise ValueError(f"{folder} has {file}, but not the plane-data.csv that belongs to it; wanted both.")
            return _Source("data_expo_2008", (folder / file, planes))
    return None


def _recognize_composite(folder: pathlib.Path) -> _Source | None:
    path = folder / _COMPOSITE
    return _Source("bts_composite", (path,)) if path.is_file() else None


_RECOGNIZERS = {"data_expo_2008": _recognize_data_expo, "bts_composite": _recognize_composite}


def _find(data_dir: manual.PathLike | None) -> _Source | None:
    def recognize(folder: pathlib.Path) -> _Source | None:
        return _recognize_data_expo(folder) or _recognize_composite(folder)

    return manual.find("flights", recognize, data_dir)


def _download(data_dir: manual.PathLike | None, dl_manager: tfds.download.DownloadManager | None = None) -> _Source:
    paths = download("flights", _FILES, data_dir, dl_manager)
    return _Source("data_expo_2008", tuple(paths[file] for file in _FILES))


def _read(source: _Source) -> tuple[dict[str, Split], str]:
    """Returns the splits and their description."""
    if source.config == "bts_composite":
        table = read_composite(*source.paths)
        num_train = int(np.searchsorted(table.year, _LAST_TRAIN_YEAR, side="right"))
        title = f"BTS composite, trained on years up to {_LAST_TRAIN_YEAR}, tested on the next rows"
    else:
        table = read_data_expo(*source.paths)
        num_rows = len(table.y)
        num_train = min(_TRAIN_2008, num_rows - min(_TEST, math.ceil(0.02 * num_rows)))
        title = "ASA Data Expo 2009, year 2008, the first rows by date against those that follow"
    splits = _split(table, num_train)
    if not all(len(y) for _, y in splits.values()):
        sizes = {split: len(y) for split, (_, y) in splits.items()}
        raise ValueError(f"{source.paths[0]} has too few rows or dates to split; the parts would have {sizes} rows.")
    return splits, f"{title}; {table.num_dropped:,} incomplete rows dropped"


def _split(table: FlightTable, num_train: int) -> dict[str, Split]:
    held_out = np.zeros(num_train, bool)
    held_out[_VALIDATION_STEP - 1 :: _VALIDATION_STEP] = True
    x, y = table.x[:num_train], table.y[:num_train]
    test = slice(num_train, num_train + _TEST)
    return {
        "train": (x[~held_out], y[~held_out]),
        "validation": (x[held_out], y[held_out]),
        "test": (table.x[test], table.y[test]),
    }
