"""Knowing when not to trust: out-of-distribution scores, rejection, calibration, drift.

These apply to any `HybridModel`. `classification`, `detection`, `drift`, `regression` and the risk-coverage curve also
take plain arrays from other models. In all of them, higher scores mean more out-of-distribution, and
out-of-distribution is the positive class.
"""

from tfp_hybrid.uncertainty import attack, classification, detection, drift, pictures, regression
from tfp_hybrid.uncertainty.calibration import calibrate, stddev_factor, temperature
from tfp_hybrid.uncertainty.conformal import conformal_interval, conformal_scores
from tfp_hybrid.uncertainty.decomposition import Decomposition, decompose
from tfp_hybrid.uncertainty.explain import explain
from tfp_hybrid.uncertainty.importance import column_importance
from tfp_hybrid.uncertainty.monitoring import Monitor
from tfp_hybrid.uncertainty.rejector import Rejector
from tfp_hybrid.uncertainty.risk_coverage import RiskCoverage, aurc, e_aurc, risk_coverage_curve
from tfp_hybrid.uncertainty.score_tables import all_scores, detection_table, score_table
from tfp_hybrid.uncertainty.scores import (
    WAIC,
    Aleatoric,
    ClassNegativeLogProb,
    ClassTypicality,
    CodeLength,
    Combined,
    ComplexityDensity,
    DensityOfStates,
    Energy,
    Epistemic,
    GradientNorm,
    InputComplexity,
    JointNegativeLogProb,
    KNearest,
    LatentNorm,
    LeastLikelyPosition,
    LevelLogProb,
    LikelihoodRatio,
    MaxProbability,
    NegativeLogProb,
    PredictiveEntropy,
    PredictiveVariance,
    RelativeMahalanobis,
    Score,
    Typicality,
    combine,
    default_score,
    log_prob_map,
)
from tfp_hybrid.uncertainty.training import BrierScore, ExpectedCalibrationError, OODMonitor

__all__ = [
    "Aleatoric",
    "BrierScore",
    "ClassNegativeLogProb",
    "ClassTypicality",
    "CodeLength",
    "Combined",
    "ComplexityDensity",
    "Decomposition",
    "DensityOfStates",
    "Energy",
    "Epistemic",
    "ExpectedCalibrationError",
    "GradientNorm",
    "InputComplexity",
    "JointNegativeLogProb",
    "KNearest",
    "LatentNorm",
    "LeastLikelyPosition",
    "LevelLogProb",
    "LikelihoodRatio",
    "MaxProbability",
    "Monitor",
    "NegativeLogProb",
    "OODMonitor",
    "PredictiveEntropy",
    "PredictiveVariance",
    "Rejector",
    "RelativeMahalanobis",
    "RiskCoverage",
    "Score",
    "Typicality",
    "WAIC",
    "all_scores",
    "attack",
    "aurc",
    "calibrate",
    "classification",
    "column_importance",
    "combine",
    "conformal_interval",
    "conformal_scores",
    "decompose",
    "default_score",
    "detection",
    "detection_table",
    "drift",
    "e_aurc",
    "explain",
    "log_prob_map",
    "pictures",
    "regression",
    "risk_coverage_curve",
    "score_table",
    "stddev_factor",
    "temperature",
]
