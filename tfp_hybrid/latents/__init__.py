"""Distributions of the latent z that are richer than a standard normal."""

from tfp_hybrid.latents.class_mixture import ClassMixture
from tfp_hybrid.latents.lattice_mixture import LatticeMixture
from tfp_hybrid.latents.student_t import StudentT

__all__ = ["ClassMixture", "LatticeMixture", "StudentT"]
