"""scikit-learn's estimators of tables: `HybridClassifier`, `HybridRegressor` and `DensityEstimator`."""

from tfp_hybrid.estimators.density import DensityEstimator
from tfp_hybrid.estimators.supervised import HybridClassifier, HybridRegressor

__all__ = ["DensityEstimator", "HybridClassifier", "HybridRegressor"]
