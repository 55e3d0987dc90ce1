"""Monitoring in production: running summaries of a rejector's answers, which add up over workers and days."""

from tfp_hybrid.uncertainty.monitoring.monitor import Monitor

__all__ = ["Monitor"]
