"""The folder that travels to the GPU machine: its files, and reading them without TensorFlow."""

import gzip
import json
import pathlib

import numpy as np

from benchmarks import stablehlo
from benchmarks.gpu import fills

MANIFEST, STORED, WHEELS, MODULES = "manifest.json", "stored.npz", "wheels", "modules"
MNIST_IMAGES, MNIST_MODEL = "mnist.npz", "mnist_start.keras"


class Bundle:
    """What `prepare` wrote.

    Args:
      folder: of the bundle.

    Attributes:
      manifest: the contents of `manifest.json`.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.manifest = json.loads((self.folder / MANIFEST).read_text())
        with np.load(self.folder / STORED) as kept:
            self._kept = {name: kept[name] for name in kept.files}

    def modules(self, group=None) -> list[dict]:
        """The entries of a group's modules, or of all."""
        return [entry for entry in self.manifest["modules"] if group in (None, entry["group"])]

    def text(self, entry: dict, precision: str = "DEFAULT") -> str:
        """A module's StableHLO."""
        text = gzip.decompress((self.folder / entry["file"]).read_bytes()).decode()
        return stablehlo.with_precision(text, precision)

    def values(self, entry: dict) -> list[np.ndarray]:
        """A module's arguments."""
        return [
            fills.make(argument["fill"], argument["shape"], argument["dtype"], self._kept)
            for argument in entry["arguments"]
        ]


def write_text(folder: pathlib.Path, name: str, text: str) -> str:
    """Writes a module, compressed; returns its path in the bundle."""
    file = f"{MODULES}/{name}.mlir.gz"
    (folder / file).write_bytes(gzip.compress(text.encode(), mtime=0))
    return file
