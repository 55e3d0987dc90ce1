"""What the machine is: card, driver, clocks, versions."""

import importlib.metadata
import os
import platform
import subprocess

FIELDS = (
    "name",
    "driver_version",
    "memory.total",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.limit",
    "temperature.gpu",
    "compute_mode",
)
PACKAGES = ("jax", "jaxlib", "numpy", "torch", "triton", "normflows", "nflows", "zuko", "flowjax", "equinox", "optax")


def facts() -> dict:
    """The card as `nvidia-smi` tells it, None where there is none; processor cores; versions."""
    return {"card": _card(), "cores": os.cpu_count(), "os": platform.platform(), "versions": _versions()}


def _card():
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(zip(FIELDS, (part.strip() for part in answer.splitlines()[0].split(",")), strict=False))


def _versions():
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found
