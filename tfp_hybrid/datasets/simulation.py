"""A simulated heteroscedastic regression with a gap in the inputs."""

from __future__ import annotations

import numpy as np
import scipy.stats

from tfp_hybrid.datasets.dataset import Dataset, Split

_CENTRES = np.array([-2.5, 2.5])
_WIDTH = 0.7
_SIZES = {"train": 1000, "validation": 200, "test": 1000}


def load(seed: int = 0) -> Dataset:
    """Simulates 1000 / 200 / 1000 rows from the distribution described at `simulate`.

    Args:
      seed: Random seed. The parts are disjoint pieces of one random stream.

    Returns:
      A `Dataset` with float32 inputs `(n, 1)` and float32 targets `(n,)`.
    """
    rng = np.random.default_rng(seed)
    return Dataset(
        name="simulation",
        task="regression",
        **{split: _draw(rng, size) for split, size in _SIZES.items()},
        feature_names=("x",),
        target_name="y",
        description=f"simulated heteroscedastic regression with a gap in the inputs, seed {seed}",
    )


def simulate(num_rows: int, seed: int = 0) -> Split:
    """Draws rows of a heteroscedastic regression.

        p(x)     = 1/2 Normal(x | -2.5, 0.7) + 1/2 Normal(x | 2.5, 0.7)
        p(y | x) = Normal(y | true_mean(x), true_stddev(x))

    There are almost no inputs around x = 0, between the two groups, so a model should be uncertain there.

    Args:
      num_rows: Number of rows `n`.
      seed: Random seed.

    Returns:
      A pair of float32 inputs `(n, 1)` and float32 targets `(n,)`.
    """
    return _draw(np.random.default_rng(seed), num_rows)


def true_log_prob(x: np.ndarray) -> np.ndarray:
    """Returns `log p(x)` in nats, elementwise."""
    groups = scipy.stats.norm.logpdf(np.asarray(x)[..., np.newaxis], _CENTRES, _WIDTH)
    return np.logaddexp.reduce(groups, -1) - np.log(2)


def true_mean(x: np.ndarray) -> np.ndarray:
    """Returns `E[y | x] = 8 x + 3.5 sin(2 x)`, elementwise; it increases with x, as any flow of a single input does."""
    return 8.0 * x + 3.5 * np.sin(2.0 * x)


def true_stddev(x: np.ndarray) -> np.ndarray:
    """Returns `sd[y | x] = 0.5 + 6 / (1 + exp(-x))`, elementwise; the noise increases with x."""
    return 0.5 + 6.0 / (1.0 + np.exp(-x))


def _draw(rng: np.random.Generator, num_rows: int) -> Split:
    x = rng.choice(_CENTRES, num_rows) + _WIDTH * rng.standard_normal(num_rows)
    y = true_mean(x) + true_stddev(x) * rng.standard_normal(num_rows)
    return x[:, np.newaxis].astype(np.float32), y.astype(np.float32)
