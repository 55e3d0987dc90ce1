"""Fits a posterior over the kernel and bias of a head: exact, or Laplace's approximation."""

from tfp_hybrid.bayes.effects import EffectsFit, fit_effects
from tfp_hybrid.bayes.fitting import fit, update
from tfp_hybrid.bayes.target import target_log_prob
from tfp_hybrid.heads.posterior import NormalInverseGamma, Posterior

__all__ = ["EffectsFit", "NormalInverseGamma", "Posterior", "fit", "fit_effects", "target_log_prob", "update"]
