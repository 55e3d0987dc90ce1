"""GLM heads: Keras layers on the latent z whose output is the distribution p(y|x)."""

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.categorical import Categorical
from tfp_hybrid.heads.class_posterior import ClassPosterior
from tfp_hybrid.heads.exponential_family import Bernoulli, ExponentialFamily
from tfp_hybrid.heads.flow import Flow
from tfp_hybrid.heads.group import Group
from tfp_hybrid.heads.mixed_effects import MixedEffects
from tfp_hybrid.heads.normal import HeteroscedasticNormal, Normal
from tfp_hybrid.heads.normal_mixture import NormalMixture
from tfp_hybrid.heads.offset import Offset
from tfp_hybrid.heads.ordinal import Ordinal
from tfp_hybrid.heads.partly_observed import PartlyObserved
from tfp_hybrid.heads.side_input_head import SideInputHead
from tfp_hybrid.heads.variational import Variational
from tfp_hybrid.heads.zero_inflated import ZeroInflated

__all__ = [
    "Bernoulli",
    "Categorical",
    "ClassPosterior",
    "ExponentialFamily",
    "Flow",
    "Group",
    "Head",
    "HeteroscedasticNormal",
    "MixedEffects",
    "Normal",
    "NormalMixture",
    "Offset",
    "Ordinal",
    "PartlyObserved",
    "SideInputHead",
    "Variational",
    "ZeroInflated",
]
