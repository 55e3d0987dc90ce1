"""Out-of-distribution scores of single inputs; higher is more out-of-distribution."""

from tfp_hybrid.uncertainty.scores.base import Score
from tfp_hybrid.uncertainty.scores.class_density import ClassNegativeLogProb, ClassTypicality
from tfp_hybrid.uncertainty.scores.combination import Combined, combine
from tfp_hybrid.uncertainty.scores.complexity import CodeLength, InputComplexity
from tfp_hybrid.uncertainty.scores.default import default_score
from tfp_hybrid.uncertainty.scores.density_of_states import ComplexityDensity, DensityOfStates
from tfp_hybrid.uncertainty.scores.gradient_norm import GradientNorm
from tfp_hybrid.uncertainty.scores.latent import LatentNorm
from tfp_hybrid.uncertainty.scores.likelihood_ratio import LikelihoodRatio
from tfp_hybrid.uncertainty.scores.log_prob import JointNegativeLogProb, LevelLogProb, NegativeLogProb, Typicality
from tfp_hybrid.uncertainty.scores.mahalanobis import RelativeMahalanobis
from tfp_hybrid.uncertainty.scores.nearest import KNearest
from tfp_hybrid.uncertainty.scores.positions import LeastLikelyPosition, log_prob_map
from tfp_hybrid.uncertainty.scores.response import (
    Aleatoric,
    Energy,
    Epistemic,
    MaxProbability,
    PredictiveEntropy,
    PredictiveVariance,
)
from tfp_hybrid.uncertainty.scores.waic import WAIC

__all__ = [
    "Aleatoric",
    "ClassNegativeLogProb",
    "ClassTypicality",
    "CodeLength",
    "Combined",
    "ComplexityDensity",
    "DensityOfStates",
    "Energy",
    "Epistemic",
    "GradientNorm",
    "InputComplexity",
    "JointNegativeLogProb",
    "KNearest",
    "LatentNorm",
    "LeastLikelyPosition",
    "LevelLogProb",
    "LikelihoodRatio",
    "MaxProbability",
    "NegativeLogProb",
    "PredictiveEntropy",
    "PredictiveVariance",
    "RelativeMahalanobis",
    "Score",
    "Typicality",
    "WAIC",
    "combine",
    "default_score",
    "log_prob_map",
]
