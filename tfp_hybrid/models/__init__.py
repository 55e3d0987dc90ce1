"""Keras models of p(x), and of p(x) and p(y|x) together."""

from tfp_hybrid.models.density_model import DensityModel
from tfp_hybrid.models.encoding import Encoding
from tfp_hybrid.models.hybrid_model import HybridModel

__all__ = ["DensityModel", "Encoding", "HybridModel"]
