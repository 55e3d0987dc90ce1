"""The features of a frozen encoder, computed once for all epochs of `fit`, in memory or on disk."""

import json
import os
import pathlib
import zlib
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import files
from tfp_hybrid.models.side_inputs import as_cached, is_dict, main, with_main

_ROWS = 256  # encoded before they are written


def every(x, count: int):
    """Returns about `count` rows, evenly spaced, of an array, or of cached features."""
    if is_dict(x):
        return {name: every(one, count) for name, one in x.items()}
    return x[:: max(1, len(x) // count)]


class FeaturesOnDisk:
    """Rows of a `.npy` file, of which only those asked for are in memory.

    The file stays open, so that replacing it changes nothing here.

    Args:
      path: The file.
    """

    def __init__(self, path: os.PathLike | str):
        self._file = open(path, "rb")
        version = np.lib.format.read_magic(self._file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        self.shape, _, self.dtype = read(self._file)
        self._start = self._file.tell()

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows) -> np.ndarray:
        """Reads rows, by a slice or an array of indices."""
        mapped = np.memmap(self._file, self.dtype, "r", self._start, self.shape)  # afresh: pages in use are memory
        return np.array(mapped[rows])

    def gather(self, indices: tf.Tensor) -> tf.Tensor:
        """Reads the rows of a batch, inside a data set."""
        rows = tf.numpy_function(self.__getitem__, [indices], tf.as_dtype(self.dtype), stateful=False)
        return tf.ensure_shape(rows, (None, *self.shape[1:]))


class FeatureCache:
    """Replaces the x of rows by the features that a model's frozen encoder makes of them.

    Args:
      model: A `DensityModel` with a frozen encoder.
      folder: Where to keep the features, one file for training and one for validation; None keeps them in memory.
      suffix: "" for training, "_val" for validation.
      verbose: Whether to show how many rows have been encoded.

    Raises:
      ValueError: If the folder holds features of other weights of the encoder.
    """

    def __init__(self, model, folder: pathlib.Path | None, suffix: str = "", verbose: bool = False):
        self.model, self._fingerprint, self._verbose = model, model.current_fingerprint(), verbose
        self._path = folder and folder / f"features{suffix}.npy"
        self._notes = folder and folder / f"features{suffix}.json"
        self._known = _read_notes(self._notes)
        if self._known and self._known["encoder"] != self._fingerprint:
            raise ValueError(
                f"cache is {str(folder)!r}, which holds features of an encoder with other weights; wanted the folder "
                f"of {model.encoder.name!r} as it is now, or a new one. Delete the folder to fill it anew."
            )

    def rows(self, columns: tuple) -> tuple:
        """Encodes checked arrays `(x, y, sample_weight)`. Those that the folder holds already are not encoded again."""
        given, *rest = columns
        x = main(given)
        notes = {"encoder": self._fingerprint, "x": _checksum(x), "shape": list(x.shape)}
        if self._path and self._known == notes and _is_whole(self._path):
            return with_main(given, as_cached(FeaturesOnDisk(self._path))), *rest
        parts = (self.model.features_in_batches(x[i : i + _ROWS], i) for i in range(0, len(x), _ROWS))
        return with_main(given, as_cached(self._kept(parts, notes, len(x)))), *rest

    def batches(self, batches: Iterable[tuple]) -> tuple:
        """Encodes the checked batches of a data set; labels and weights of all rows are in memory."""
        others, sides = [], []

        def features():
            first_row = 0
            for given, *rest in batches:
                x = np.asarray(main(given))
                others.append((*rest, None, None)[:2])
                sides.append(tf.nest.map_structure(np.asarray, with_main(given, {}) if is_dict(given) else {}))
                yield self.model.features_in_batches(x, first_row)
                first_row += len(x)

        kept = self._kept(features(), {"encoder": self._fingerprint})
        columns = zip(*others, strict=True)
        side = {name: np.concatenate([one[name] for one in sides]) for name in sides[0]}
        return as_cached(kept) | side, *(None if column[0] is None else np.concatenate(column) for column in columns)

    def _kept(self, parts, notes, rows=None):
        parts = self._shown(parts, rows)
        if not self._path:
            return np.concatenate(list(parts))
        with files.locked(self._path.parent):
            files.remove(self._notes)  # first, so that notes never stand beside the features of other rows
            with files.replacing(self._path) as temporary:
                _write(temporary, parts)
            files.write(self._notes, json.dumps(notes))
            return FeaturesOnDisk(self._path)

    def _shown(self, parts, rows):
        if not self._verbose:
            yield from parts
            return
        bar, done = keras.utils.Progbar(rows, unit_name="row"), 0
        for part in parts:
            done += len(part)
            bar.update(done)
            yield part
        if rows is None:
            bar.update(done, finalize=True)


def _read_notes(path):
    """Returns what a folder says of its features; nothing if it cannot be read, so that they are computed anew."""
    try:
        notes = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) and "encoder" in notes else {}


def _is_whole(path):
    """Returns whether a `.npy` file has all bytes that its header promises."""
    try:
        np.load(path, mmap_mode="r")
    except (OSError, ValueError):
        return False
    return True


def _checksum(x):
    return zlib.crc32(np.ascontiguousarray(x).data.cast("B")) if x.size else 0


def _write(path, parts):
    """Writes arrays, one after another, as one `.npy` file, whose header has room for the number of rows."""
    rows, shape, dtype = 0, (), None
    with open(path, "wb") as file:
        for part in parts:
            if dtype is None:
                shape, dtype = part.shape[1:], part.dtype
                _write_header(file, rows, shape, dtype)
            file.write(np.ascontiguousarray(part).data)
            rows += len(part)
        file.seek(0)
        _write_header(file, rows, shape, dtype)


def _write_header(file, rows, shape, dtype):
    description = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": description, "fortran_order": False, "shape": (rows, *shape)}
    np.lib.format.write_array_header_1_0(file, header)
