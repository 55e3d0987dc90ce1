"""Checks of arguments that are single numbers."""

import math
import numbers

import numpy as np


def check_count(count, argument: str, least: int = 1):
    """Raises ValueError unless `count` is a whole number >= `least`; `argument` is its name in the message."""
    if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < least:
        raise ValueError(f"{argument} is {count!r}; wanted a whole number, at least {least}.")


def as_shape(value, argument: str) -> tuple[int, ...]:
    """Returns one whole number, or several, as a tuple; raises ValueError unless each is at least 1."""
    sizes = tuple(np.atleast_1d(np.asarray(value, object)))
    if not all(isinstance(size, numbers.Integral) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ValueError(f"{argument} is {value!r}; wanted a whole number, or a tuple of them, at least 1.")
    return tuple(map(int, sizes))


def check_batch_size(batch_size, argument: str = "batch_size"):
    """Raises ValueError unless `batch_size` is None or a whole number >= 1."""
    if batch_size is not None:
        check_count(batch_size, argument)


def check_fraction(fraction, argument: str):
    """Raises ValueError unless `fraction` is a number strictly between 0 and 1."""
    if not isinstance(fraction, numbers.Real) or not 0 < fraction < 1:
        raise ValueError(f"{argument} is {fraction!r}; wanted a number strictly between 0 and 1.")


def check_number(value, argument: str, least: float = -math.inf, open: bool = False):
    """Raises ValueError unless `value` is a finite number >= `least`; > `least`, if `open`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{argument} is {value!r}; wanted a finite number.")
    if value < least or (open and value == least):
        raise ValueError(f"{argument} is {value!r}; wanted a number {'above' if open else 'of at least'} {least:g}.")


def stateless_seed(seed):
    """Returns a whole number as a pair for TFP, which would mix it with how many draws there were before; else `seed`.

    Raises:
      ValueError: If the number is negative.
    """
    if not isinstance(seed, numbers.Integral):
        return seed
    check_count(seed, "seed", least=0)
    return np.random.SeedSequence(int(seed)).generate_state(2).view(np.int32)  # two words of 32 bits
