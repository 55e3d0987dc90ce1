"""Trained models in production: many rows, many machines, and servers."""

from tfp_hybrid.serving.scorer import Scorer

__all__ = ["Scorer"]
