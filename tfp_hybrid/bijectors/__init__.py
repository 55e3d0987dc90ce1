"""`tfb.Bijector`s for hybrid models; `forward` maps latents z to data x, and `inverse` is the fast direction."""

from tfp_hybrid.bijectors import transformers
from tfp_hybrid.bijectors.act_norm import ActNorm
from tfp_hybrid.bijectors.affine_coupling import AffineCoupling
from tfp_hybrid.bijectors.background import Background
from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.circular_spline_flow import CircularSplineFlow
from tfp_hybrid.bijectors.coupling import Coupling
from tfp_hybrid.bijectors.dequantize import Dequantize
from tfp_hybrid.bijectors.elementwise import Elementwise
from tfp_hybrid.bijectors.factor_out import FactorOut
from tfp_hybrid.bijectors.glow import Glow
from tfp_hybrid.bijectors.integer_flow import IntegerFlow
from tfp_hybrid.bijectors.invertible_linear import InvertibleLinear
from tfp_hybrid.bijectors.lattice import Lattice
from tfp_hybrid.bijectors.masked_autoregressive import AutoregressiveFlow, MaskedAutoregressive
from tfp_hybrid.bijectors.neural_spline_flow import NeuralSplineFlow
from tfp_hybrid.bijectors.one_pass import forward_and_log_det, inverse_and_log_det
from tfp_hybrid.bijectors.positionwise import Positionwise
from tfp_hybrid.bijectors.preprocessing import integer_preprocessing
from tfp_hybrid.bijectors.principal_components import PrincipalComponents
from tfp_hybrid.bijectors.real_nvp import RealNVP
from tfp_hybrid.bijectors.spline import Spline
from tfp_hybrid.bijectors.spline_coupling import SplineCoupling
from tfp_hybrid.bijectors.squeeze import Squeeze
from tfp_hybrid.bijectors.steps import Steps
from tfp_hybrid.bijectors.variational_dequantize import VariationalDequantize
from tfp_hybrid.bijectors.whitening import Whitening

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "AutoregressiveFlow",
    "Background",
    "CircularSplineFlow",
    "Coupling",
    "Dequantize",
    "Elementwise",
    "FactorOut",
    "FusedBijector",
    "FusedChain",
    "Glow",
    "IntegerFlow",
    "InvertibleLinear",
    "Lattice",
    "MaskedAutoregressive",
    "NeuralSplineFlow",
    "Positionwise",
    "PrincipalComponents",
    "RealNVP",
    "Spline",
    "SplineCoupling",
    "Squeeze",
    "Steps",
    "VariationalDequantize",
    "Whitening",
    "forward_and_log_det",
    "integer_preprocessing",
    "inverse_and_log_det",
    "transformers",
]
