"""Callbacks of `fit`."""

from tfp_hybrid.callbacks.backup import BackupAndRestore
from tfp_hybrid.callbacks.non_finite import StopOnNonFinite

__all__ = ["BackupAndRestore", "StopOnNonFinite"]
