"""Deep invertible generalized linear models: p(x) and p(y|x) from one normalizing flow.

Start with `HybridModel`, `DensityModel` and the README.
"""

import importlib as _importlib
import pathlib as _pathlib
import sys as _sys

# In the console script, `--help` must not wait for TensorFlow, which takes seconds to import; the commands import what
# they need. Elsewhere, importing the package registers everything that saved models may name.
_IN_CONSOLE_SCRIPT = _pathlib.Path((getattr(_sys, "argv", None) or [""])[0]).stem == "tfp-hybrid"

if not _IN_CONSOLE_SCRIPT:
    from tfp_hybrid.registered import bijectors, heads, latents, networks, penalties, recipes, tables, uncertainty  # isort: skip (it checks the backend)
    from tfp_hybrid import active, bandits, bayes, callbacks, compression, serving, shift
    from tfp_hybrid.estimators import DensityEstimator, HybridClassifier, HybridRegressor
    from tfp_hybrid.flows import flow_distribution
    from tfp_hybrid.interop import ModuleLayer
    from tfp_hybrid.models import DensityModel, Encoding, HybridModel

__version__ = "0.1.0"
__all__ = [
    "DensityEstimator",
    "DensityModel",
    "Encoding",
    "HybridClassifier",
    "HybridModel",
    "HybridRegressor",
    "ModuleLayer",
    "active",
    "bandits",
    "bayes",
    "bijectors",
    "callbacks",
    "compression",
    "datasets",
    "flow_distribution",
    "heads",
    "latents",
    "networks",
    "penalties",
    "recipes",
    "serving",
    "shift",
    "tables",
    "uncertainty",
]


def __getattr__(name):
    if name in ("commands", "datasets"):  # these import tensorflow_datasets, which the rest does not need
        return _importlib.import_module(f"tfp_hybrid.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
