"""Checks of lambda, and of what it weighs."""

import math

import numpy as np

_WEIGHTINGS = ("density", "jacobian")


def check_generative_weight(weight):
    """Raises ValueError unless lambda is a finite number >= 0, or a callable of the optimizer's step."""
    if callable(weight):
        return
    if not isinstance(weight, (int, float, np.number)) or not (0 <= weight < math.inf):
        raise ValueError(
            f"HybridModel: `generative_weight` is {weight!r}; wanted lambda >= 0, finite, or a callable of the step."
        )


def check_weighting(weighting: str):
    """Raises ValueError unless lambda weighs "density" or "jacobian"."""
    if weighting not in _WEIGHTINGS:
        raise ValueError(f"HybridModel: `weighting` is {weighting!r}; wanted one of {_WEIGHTINGS}.")
