"""Distributions of the latent z that are richer than a standard normal."""

from tfp_hybrid.latents.class_mixture import ClassMixture

__all__ = ["ClassMixture"]
