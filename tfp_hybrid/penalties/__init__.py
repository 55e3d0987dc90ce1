"""What is added to the objective of `HybridModel` in training, beside log p(y|x) and log p(x)."""

from tfp_hybrid.penalties.base import Batch, Penalty
from tfp_hybrid.penalties.consistency import Consistency

__all__ = ["Batch", "Consistency", "Penalty"]
