"""Plots of scores, predictions, images, columns and training; each is a `matplotlib.figure.Figure`, in one style."""

from tfp_hybrid.uncertainty.pictures.curves import (
    bin_log_probs,
    column_histograms,
    coverage_diagram,
    learning_curves,
    log_prob_histograms,
    precision_recall_curves,
    reliability_diagram,
    risk_coverage_curves,
    roc_curves,
    score_histograms,
)
from tfp_hybrid.uncertainty.pictures.decomposition import decomposition
from tfp_hybrid.uncertainty.pictures.drift import drift_columns, drift_picture
from tfp_hybrid.uncertainty.pictures.images import answers, extremes, heat_maps, image_grid
from tfp_hybrid.uncertainty.pictures.monitors import monitor_windows
from tfp_hybrid.uncertainty.pictures.queries import query_curves
from tfp_hybrid.uncertainty.pictures.regret import regret_curves
from tfp_hybrid.uncertainty.pictures.style import png, save, styled, svg
from tfp_hybrid.uncertainty.pictures.tables import column_importance, explanation

__all__ = [
    "answers",
    "bin_log_probs",
    "column_histograms",
    "column_importance",
    "coverage_diagram",
    "decomposition",
    "drift_columns",
    "drift_picture",
    "explanation",
    "extremes",
    "heat_maps",
    "image_grid",
    "learning_curves",
    "log_prob_histograms",
    "monitor_windows",
    "png",
    "precision_recall_curves",
    "query_curves",
    "regret_curves",
    "reliability_diagram",
    "risk_coverage_curves",
    "roc_curves",
    "save",
    "score_histograms",
    "styled",
    "svg",
]
