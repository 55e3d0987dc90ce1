"""Distances between a batch of latents z and those of a reference.

Against p_z, z is nearly N(0, I), but no model is perfect. So z is compared with that of reference rows, not with p_z.
"""

import numpy as np
import sklearn.covariance

_FARTHEST = 100.0  # standard deviations: what is beyond, or overflows to NaN, counts as this far away
_OUTLIER = 5.0
_PROJECTIONS = 32
_FREQUENCIES = 256


class Mean:
    """The Mahalanobis distance between the means of z; its square times the number of rows is Hotelling's T^2.

        |L^-1 (mean(z) - mu)|,      L L^T = Sigma,

    with mean mu and covariance Sigma of the reference, shrunk as by Ledoit and Wolf. Where the reference has too few
    rows for the size of z, Sigma is diagonal.

    Args:
      reference: z of the reference, `(n, d)`.

    References:
      Hotelling 1931, "The Generalization of Student's Ratio".
      Ledoit and Wolf 2004, "A Well-Conditioned Estimator for Large-Dimensional Covariance Matrices".
    """

    name = "mean"

    def __init__(self, reference: np.ndarray):
        self._whiten = Whitening(reference)

    def rows(self, z: np.ndarray) -> np.ndarray:
        """Returns whitened rows, `(n, d)`."""
        return self._whiten(z, _FARTHEST)

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Returns the distance of each batch from the reference, `(batches,)`, from `(batches, m, d)`."""
        return np.linalg.norm(rows.mean(1), axis=-1)

    def effect(self, rows: np.ndarray, distance: float, by_chance: float) -> float:
        """Returns the distance beyond chance, in standard deviations of z."""
        return beyond_chance(distance, by_chance)


class Covariance:
    """The Frobenius norm of the change of the covariance of whitened z.

    Whitened z beyond 5 standard deviations is moved there, since a few outliers would dominate the covariance. Of a
    large z, the covariance of 32 random projections is compared.

    Args:
      reference: z of the reference, `(n, d)`.
      seed: The random seed of the projections.
    """

    name = "covariance"

    def __init__(self, reference: np.ndarray, seed: int = 0):
        self._whiten, size = Whitening(reference), reference.shape[1]
        if size > 2 * _PROJECTIONS:
            directions = np.random.default_rng(seed).normal(size=(size, _PROJECTIONS))
            self._directions = np.linalg.qr(directions)[0].astype("float32")
        else:
            self._directions = None
        self._reference = _covariances(self.rows(reference)[np.newaxis])[0]

    def rows(self, z: np.ndarray) -> np.ndarray:
        """Returns whitened rows, or projections of them, `(n, k)`."""
        z = self._whiten(z, _OUTLIER)
        return z if self._directions is None else z @ self._directions

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Returns the distance of each batch from the reference, `(batches,)`, from `(batches, m, k)`."""
        return np.linalg.norm(_covariances(rows) - self._reference, axis=(1, 2))

    def effect(self, rows: np.ndarray, distance: float, by_chance: float) -> float:
        """Returns the distance beyond chance; 1 if the variance of one entry of z doubles."""
        return beyond_chance(distance, by_chance)


class Kernel:
    """The maximum mean discrepancy (MMD) of z with the kernel k(a, b) = exp(-|a - b|^2 / (2 s^2)).

    s is the median distance between reference rows. The kernel is approximated by 256 random frequencies w: the MMD is
    the distance between the means of the features [cos(w z), sin(w z)] / 16, from 0 to sqrt(2).

    Args:
      reference: z of the reference, `(n, d)`.
      seed: The random seed of the frequencies.

    References:
      Gretton et al. 2012, "A Kernel Two-Sample Test".
      Rahimi and Recht 2007, "Random Features for Large-Scale Kernel Machines".
    """

    name = "MMD"

    def __init__(self, reference: np.ndarray, seed: int = 0):
        rng = np.random.default_rng(seed)
        self._whiten = Whitening(reference)
        few = self._whiten(reference[rng.permutation(len(reference))[:500]], _OUTLIER)
        squares = (few**2).sum(1)
        distances = squares[:, np.newaxis] + squares - 2 * few @ few.T
        width = np.sqrt(max(np.median(distances[np.triu_indices(len(few), 1)]), 1e-6))
        frequencies = rng.normal(size=(reference.shape[1], _FREQUENCIES)) / width
        self._frequencies = frequencies.astype("float32")
        self._mean = self.rows(reference).mean(0, dtype=float)

    def rows(self, z: np.ndarray) -> np.ndarray:
        """Returns the features of rows, `(n, 512)`."""
        angles = self._whiten(z, _OUTLIER) @ self._frequencies
        return np.concatenate([np.cos(angles), np.sin(angles)], -1) / np.float32(np.sqrt(_FREQUENCIES))

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Returns the MMD of each batch from the reference, `(batches,)`, from `(batches, m, 512)`."""
        return np.linalg.norm(rows.mean(1) - self._mean, axis=-1)

    def effect(self, rows: np.ndarray, distance: float, by_chance: float) -> float:
        """Returns the MMD beyond chance."""
        return beyond_chance(distance, by_chance)


class Whitening:
    """The affine map that gives reference rows mean zero and covariance I.

    A map that is fitted to n rows fits them better than new rows: T^2 of new rows is larger by d / n. Its mean d then
    grows by d^2 / n, which must be little against its standard deviation, sqrt(2 d). Otherwise only the variances are
    scaled, whose number is d.

    Args:
      reference: z of the reference, `(n, d)`; NaN and infinite entries do not count.
    """

    def __init__(self, reference: np.ndarray):
        count, size = reference.shape
        finite = reference[np.isfinite(reference).all(1)].astype(float)
        finite = finite if len(finite) else np.zeros((1, size))
        self._mean, stddev = finite.mean(0), finite.std(0)
        self._stddev = np.where(stddev > 0, stddev, 1.0)
        self._matrix = None
        if size**1.5 < 0.07 * count and len(finite) > 1:
            covariance, _ = sklearn.covariance.ledoit_wolf(self._scaled(finite, _OUTLIER), assume_centered=True)
            values, vectors = np.linalg.eigh(covariance)
            self._matrix = (vectors / np.sqrt(np.maximum(values, 1e-6))).astype("float32")

    def __call__(self, z: np.ndarray, farthest: float) -> np.ndarray:
        """Returns whitened rows, `(n, d)`, from z whose entries are moved to within `farthest` standard deviations."""
        scaled = self._scaled(z, farthest).astype("float32")
        return scaled if self._matrix is None else scaled @ self._matrix

    def _scaled(self, z, farthest):
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (z - self._mean) / self._stddev
        return np.clip(np.nan_to_num(scaled, nan=farthest, posinf=farthest, neginf=-farthest), -farthest, farthest)


def beyond_chance(distance: float, by_chance: float) -> float:
    """Returns a distance without what sampling adds to its square: sqrt(max(0, distance^2 - by_chance^2))."""
    return float(np.sqrt(max(0.0, distance**2 - by_chance**2)))


def _covariances(rows):
    """The covariance of each batch, `(batches, k, k)`."""
    centred = rows - rows.mean(1, keepdims=True)
    return np.swapaxes(centred, 1, 2) @ centred / rows.shape[1]
