"""Transformers of couplings: scalar bijectors whose raw parameters a conditioner computes."""

from tfp_hybrid.bijectors.transformers.additive import Additive
from tfp_hybrid.bijectors.transformers.affine import Affine
from tfp_hybrid.bijectors.transformers.base import Transformer
from tfp_hybrid.bijectors.transformers.circular_spline import CircularSpline
from tfp_hybrid.bijectors.transformers.rational_quadratic_spline import RationalQuadraticSpline
from tfp_hybrid.bijectors.transformers.rounded import Rounded

__all__ = ["Additive", "Affine", "CircularSpline", "RationalQuadraticSpline", "Rounded", "Transformer"]
