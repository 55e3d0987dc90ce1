"""Records what a result depends on: versions of the software, and the machine."""

import importlib.metadata
import os
import pathlib
import platform

import tensorflow as tf

import tfp_hybrid

LIBRARIES = ("tensorflow", "tensorflow_probability", "keras", "tf_keras", "numpy")


def record() -> dict[str, str | None]:
    """Returns `versions` and the machine, which are saved with a result."""
    return versions() | {"machine": machine()}


def versions(*more: str) -> dict[str, str | None]:
    """Returns the versions of Python, this package and its libraries, by name; None for one that is not installed.

    Args:
      *more: Names of further packages.
    """
    own = {"python": platform.python_version(), "tfp_hybrid": tfp_hybrid.__version__}
    return own | {name: _version(name) for name in (*LIBRARIES, *more)}


def machine() -> str:
    """Returns the processor, the number of its cores and the number of GPUs, in one line."""
    return f"{cpu()}, {os.cpu_count()} cores, {len(tf.config.list_physical_devices('GPU'))} GPUs"


def cpu() -> str:
    """Returns the name of the processor."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else ()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
