"""What a result depends on: versions and the machine."""

import importlib.metadata
import os
import pathlib
import platform

import tensorflow as tf

import tfp_hybrid

LIBRARIES = ("tensorflow", "tensorflow_probability", "keras", "tf_keras", "numpy")


def record() -> dict[str, str | None]:
    """What is kept beside a result: `versions`, and the machine."""
    return versions() | {"machine": machine()}


def versions(*more: str) -> dict[str, str | None]:
    """Versions of Python, of this package and of the libraries under it, by name; None if one is not installed.

    Args:
      *more: names of further packages.
    """
    own = {"python": platform.python_version(), "tfp_hybrid": tfp_hybrid.__version__}
    return own | {name: _version(name) for name in (*LIBRARIES, *more)}


def machine() -> str:
    """The processor, its cores, and the number of GPUs, in one line."""
    return f"{cpu()}, {os.cpu_count()} cores, {len(tf.config.list_physical_devices('GPU'))} GPUs"


def cpu() -> str:
    """Name of the processor."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else ()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
