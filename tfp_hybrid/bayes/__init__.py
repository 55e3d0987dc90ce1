"""Fits a posterior over the kernel and bias of a head: exact, or Laplace's approximation."""

from tfp_hybrid.bayes.fitting import fit, update
from tfp_hybrid.bayes.target import target_log_prob
from tfp_hybrid.heads.posterior import NormalInverseGamma, Posterior

__all__ = ["NormalInverseGamma", "Posterior", "fit", "target_log_prob", "update"]
