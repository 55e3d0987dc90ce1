"""The CSV file of finished runs, which an interrupted benchmark resumes."""

import hashlib
import pathlib

import pandas as pd
import typer

from benchmarks.machine import machine, versions
from tfp_hybrid import files


class Finished:
    """A table of finished runs; each row says with which settings, and where, it was measured.

    Args:
      path: The CSV file; there may be none yet.
      columns: Its columns, besides "settings" and "machine".
      settings: What determines the figures, besides the seed and the code.
      packages: Names of further packages whose versions count.

    Raises:
      typer.BadParameter: If the file has runs with other settings.

    Attributes:
      table: The runs so far.
    """

    def __init__(self, path: pathlib.Path, columns: list[str], settings: dict, packages: tuple[str, ...] = ()):
        about, used = machine(), versions(*packages)
        wanted = ("python", "tensorflow", "keras", "tfp_hybrid", *packages)
        named = [f"{name} {used[name]}" for name in wanted if used.get(name)]
        self._path = path
        self._own = {"settings": hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:8]}
        self._own |= {"machine": f"{about['cores']} cores of {about['cpu']}, {', '.join(named)}"}
        empty = pd.DataFrame(columns=[*columns, *self._own])
        self.table = pd.read_csv(path, dtype={"settings": str}) if path.exists() else empty
        if not set(self.table.get("settings", ["none"])) <= {self._own["settings"]}:
            raise typer.BadParameter(f"{path} has runs with other settings; delete it, or give another --out.")

    def add(self, rows: pd.DataFrame):
        """Adds the rows of a finished run, and writes the file."""
        rows = rows.assign(**self._own)[list(self.table.columns)]
        self.table = pd.concat([self.table, rows]) if len(self.table) else rows
        with files.replacing(self._path) as beside:
            self.table.to_csv(beside, index=False, float_format="%.8g")

    def has(self, **values) -> bool:
        """Whether there is a row with these values."""
        return bool((self.table[list(values)] == pd.Series(values)).all(axis=1).any())

    @property
    def machines(self) -> str:
        """The machines and the versions with which the runs were measured."""
        return "; ".join(self.table["machine"].unique())
