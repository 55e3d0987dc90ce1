"""Arrays that two machines make alike, and digests by which their results are compared.

Weights of a large model would fill the bundle. So most arrays are described, not stored: a seed and a range, from
which SplitMix64 makes the same numbers under any version of NumPy. Of a result only a `digest` is kept.
"""

import math

import numpy as np

PROJECTIONS = 4
_SMALLEST_NORM = 1e-3


def zeros() -> dict:
    """Describes an array of zeros."""
    return {"fill": "zeros"}


def uniform(seed: int, low: float, high: float) -> dict:
    """Describes real numbers, uniform on [low, high)."""
    return {"fill": "uniform", "seed": seed, "low": low, "high": high}


def integers(seed: int, below: int) -> dict:
    """Describes integers 0 .. below-1."""
    return {"fill": "integers", "seed": seed, "below": below}


def stored(key: str) -> dict:
    """Describes an array that is kept in the bundle under this name."""
    return {"fill": "stored", "key": key}


def make(fill: dict, shape, dtype, kept=None) -> np.ndarray:
    """The array that is described.

    Args:
      fill: what `zeros`, `uniform`, `integers` or `stored` returned.
      shape, dtype: of the array.
      kept: the stored arrays by name.

    Raises:
      ValueError: for an unknown description.
    """
    kind, size = fill["fill"], math.prod(shape)
    if kind == "zeros":
        return np.zeros(shape, dtype)
    if kind == "stored":
        return np.asarray(kept[fill["key"]]).reshape(shape).astype(dtype)
    if kind == "integers":
        return (_bits(fill["seed"], size) % np.uint64(fill["below"])).astype(dtype).reshape(shape)
    if kind == "uniform":
        unit = (_bits(fill["seed"], size) >> np.uint64(40)) / 2**24
        return (fill["low"] + (fill["high"] - fill["low"]) * unit).astype(dtype).reshape(shape)
    raise ValueError(f"`fill` is {kind!r}; wanted zeros, stored, integers or uniform.")


def digest(array, seed: int = 0) -> list[float]:
    """The norm of an array, and its products with `PROJECTIONS` vectors of random signs."""
    values = np.asarray(array).astype(np.float64).ravel()
    bits = _bits(seed + 1_000_003, values.size) >> np.uint64(32)
    signs = ((1 - 2.0 * ((bits >> np.uint64(i)) & np.uint64(1)).astype(np.float64)) for i in range(PROJECTIONS))
    return [float(np.linalg.norm(values)), *(float(values @ sign) for sign in signs)]


def error(found: list[float], wanted: list[float]) -> float:
    """An estimate of ||found - wanted|| / ||wanted|| from two digests.

    The product of the difference with random signs has the variance ||found - wanted||^2.
    """
    squares = [(a - b) ** 2 for a, b in zip(found[1:], wanted[1:], strict=True)]
    return math.sqrt(sum(squares) / len(squares)) / max(wanted[0], _SMALLEST_NORM)


def _bits(seed, size):
    """64 random bits for each position."""
    return split_mix((int(seed) * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) % 2**64, size)


def split_mix(state: int, size: int) -> np.ndarray:
    """The first outputs of SplitMix64 from a state, uint64."""
    x = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
