"""Where and with what the figures were taken."""

import importlib.metadata
import os
import pathlib
import platform

PACKAGES = (
    "tfp-hybrid",
    "tensorflow",
    "tensorflow-probability",
    "keras",
    "tf-keras",
    "numpy",
    "torch",
    "normflows",
    "nflows",
    "zuko",
)


def machine() -> dict:
    """CPU, its cores, memory in GiB, operating system, and how busy it is: the load average of the last minute."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": platform.platform(),
        "load": os.getloadavg()[0],
    }


def versions() -> dict:
    """Versions of Python and of the packages; None for one that is not installed."""
    return {"python": platform.python_version()} | {package: _version(package) for package in PACKAGES}


def _cpu():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
