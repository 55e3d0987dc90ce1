"""What a result depends on: versions and the machine."""

import os
import pathlib
import platform

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import tfp_hybrid


def versions() -> dict[str, str]:
    """Of the libraries, and the machine."""
    return {
        "tfp_hybrid": tfp_hybrid.__version__,
        "tensorflow": tf.__version__,
        "tensorflow_probability": tfp.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {len(tf.config.list_physical_devices('GPU'))} GPUs",
    }


def _cpu():
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else ()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
