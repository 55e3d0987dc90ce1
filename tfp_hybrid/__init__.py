"""Deep invertible generalized linear models: p(x) and p(y|x) from one normalizing flow.

See `HybridModel` and `DensityModel`, and the README for where to start.
"""

import importlib as _importlib
import os as _os

# Keras itself fails to import where the backend it was told to use is not installed.
if (_backend := _os.environ.get("KERAS_BACKEND") or "tensorflow") == "tensorflow":
    import keras as _keras

    _backend = _keras.config.backend()
if _backend != "tensorflow":
    raise ImportError(
        f"tfp_hybrid needs Keras with the tensorflow backend; it is {_backend!r}. Set the environment "
        "variable KERAS_BACKEND=tensorflow before Keras is imported, or set it in ~/.keras/keras.json."
    )

from tfp_hybrid import bijectors, heads, networks, uncertainty
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.interop import ModuleLayer
from tfp_hybrid.models import DensityModel, Encoding, HybridModel

__version__ = "0.1.0"
__all__ = [
    "DensityModel",
    "Encoding",
    "HybridModel",
    "ModuleLayer",
    "bijectors",
    "datasets",
    "flow_distribution",
    "heads",
    "networks",
    "uncertainty",
]


def __getattr__(name):
    if name == "datasets":  # imports pandas and tensorflow_datasets, which nothing else here needs
        return _importlib.import_module("tfp_hybrid.datasets")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
