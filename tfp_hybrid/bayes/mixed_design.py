"""`Design`: which coefficients each row of a mixed-effects model has, and the linear algebra of their precision."""

import dataclasses
import functools

import numpy as np
import scipy.linalg
import scipy.sparse

MOST_ENTRIES = 2**28  # of the matrix between the largest group and all other coefficients
_ROWS = 2**16  # at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Design:
    """n rows, with fixed coefficients of phi and random ones of the levels that they belong to.

        eta = phi B + offset + sum_g Z_g U_g

    Coefficients are `[B, U_1, U_2, ...]`: B `(d + 1, u)`, and U_g `(L_g, k_g, u)`. The largest group is eliminated
    first: its block of the precision has a small block for each level, so that the Schur complement in all the other
    coefficients is the only large dense matrix.

    Attributes:
      phi: (z, 1), `(n, d + 1)`.
      offset: The known part of the predictors, `(n, u)`.
      levels: The number of the level of each row in each group, `(n,)`; -1 for none.
      slopes: (1, slopes) of each row in each group, `(n, k_g)`.
      counts: L_g.
      units: u.
    """

    phi: np.ndarray
    offset: np.ndarray
    levels: list[np.ndarray]
    slopes: list[np.ndarray]
    counts: list[int]
    units: int

    def __post_init__(self):
        if self.counts:
            others = self.phi.shape[1] + sum(self.sizes) - self.sizes[self.first]
            entries = self.sizes[self.first] * others * self.units**2
            if max(entries, (others * self.units) ** 2) > MOST_ENTRIES:
                raise ValueError(
                    f"The groups have {' and '.join(f'{count:,}' for count in self.counts)} levels; wanted one that is "
                    f"large, and few enough levels of all others that {MOST_ENTRIES:,} numbers hold the products of "
                    "the two. (Training alone, without `fit_effects`, takes more.)"
                )

    @property
    def sizes(self) -> list[int]:
        """L_g k_g."""
        return [count * slopes.shape[1] for count, slopes in zip(self.counts, self.slopes, strict=True)]

    @property
    def first(self) -> int:
        """The group that is eliminated first."""
        return int(np.argmax(self.sizes))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of B and of each U_g."""
        of_groups = [(n, s.shape[1], self.units) for n, s in zip(self.counts, self.slopes, strict=True)]
        return [(self.phi.shape[1], self.units), *of_groups]

    @functools.cached_property
    def matrices(self) -> list[scipy.sparse.csr_array]:
        """Z_g, `(n, L_g k_g)`."""
        found = []
        for level, slopes, size in zip(self.levels, self.slopes, self.sizes, strict=True):
            n, k = slopes.shape
            columns = (np.maximum(level, 0)[:, np.newaxis] * k + np.arange(k)).astype(np.int32)
            values = np.where(level[:, np.newaxis] >= 0, slopes, 0.0)
            starts = np.arange(0, n * k + 1, k, dtype=np.int32)
            found.append(scipy.sparse.csr_array((values.ravel(), columns.ravel(), starts), shape=(n, size)))
        return found

    def predictors(self, coefficients: list[np.ndarray]) -> np.ndarray:
        """eta, `(n, u)`."""
        eta = self.offset + self.phi @ coefficients[0]
        for matrix, effects in zip(self.matrices, coefficients[1:], strict=True):
            eta += matrix @ effects.reshape(-1, self.units)
        return eta

    def gradient(self, slope: np.ndarray) -> list[np.ndarray]:
        """The gradient with respect to the coefficients, from that with respect to eta, `(n, u)`."""
        found = [self.phi.T @ slope, *(matrix.T @ slope for matrix in self.matrices)]
        return [one.reshape(shape) for one, shape in zip(found, self.shapes, strict=True)]

    def products(self, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """The weighted products of all columns of the design.

        Returns:
          For the first group, its blocks `(L, k, k)` and its products with the other columns, `(L, k, r)`; and those of
          the other columns, `(r, r)`: phi and the remaining groups in their order.
        """
        inner = np.zeros((self.phi.shape[1],) * 2)
        for start in range(0, len(self.phi), _ROWS):
            part = self.phi[start : start + _ROWS].astype(float)
            inner += part.T @ (weights[start : start + _ROWS, np.newaxis] * part)
        if not self.counts:
            return None, None, inner
        weighted = [scipy.sparse.diags_array(weights) @ matrix for matrix in self.matrices]
        matrix, level, slopes = self.matrices[self.first], self.levels[self.first], self.slopes[self.first]
        count, k = self.counts[self.first], slopes.shape[1]
        known = level >= 0
        blocks = np.empty((count, k, k))
        for i in range(k):
            for j in range(i + 1):
                values = weights * slopes[:, i] * slopes[:, j]
                blocks[:, i, j] = blocks[:, j, i] = np.bincount(level[known], values[known], count)
        others = [g for g in range(len(self.counts)) if g != self.first]
        across = [weighted[self.first].T @ self.phi, *((matrix.T @ weighted[g]).toarray() for g in others)]
        rest = [[inner, *((weighted[g].T @ self.phi).T for g in others)]]
        for g in others:
            row = [weighted[g].T @ self.phi, *((self.matrices[g].T @ weighted[h]).toarray() for h in others)]
            rest.append(row)
        return blocks, np.concatenate(across, 1).reshape(count, k, -1), np.block(rest)


@dataclasses.dataclass(frozen=True, eq=False)
class Precision:
    """The precision of all coefficients: information of the rows, and of the prior; factorized.

    Attributes:
      design: The `Design`.
      root: The roots of the blocks of the first group, `(L, k u, k u)`; None without groups.
      across: Its products with the others, `(L, k u, r u)`.
      solved: The blocks' inverses times `across`.
      schur: The root of the Schur complement, `(r u, r u)`.
      blocks: The precision of the effects of each level of each group, `(L, k u, k u)`.
    """

    design: Design
    root: np.ndarray | None
    across: np.ndarray | None
    solved: np.ndarray | None
    schur: np.ndarray
    blocks: list[np.ndarray]

    @classmethod
    def of(cls, design: Design, products: dict[tuple[int, int], tuple], covariances: list[np.ndarray], prior: float):
        """Factorizes the precision.

        Args:
          design: The design.
          products: `Design.products` for each pair (a, b) of predictors, a <= b, that have a common information.
          covariances: C_g, `(k u, k u)`.
          prior: The precision of the prior of fixed effects.

        Raises:
          ValueError: If the rows do not determine the fixed effects.
        """
        u, (features, _) = design.units, design.shapes[0]
        size = next(iter(products.values()))[2].shape[0]
        rest = np.zeros((size, u, size, u))
        for (a, b), (_, _, inner) in products.items():
            rest[:, a, :, b] = inner
            rest[:, b, :, a] = inner.T
        rest = rest.reshape(size * u, size * u)
        rest[np.arange(features * u), np.arange(features * u)] += prior
        inverses = [np.linalg.inv(one) for one in covariances]
        found, start = {}, features * u
        for g in (g for g in range(len(covariances)) if g != design.first):
            width, stop = len(inverses[g]), start + design.sizes[g] * u
            blocks = rest[start:stop, start:stop].reshape(design.counts[g], width, design.counts[g], width)
            at = np.arange(design.counts[g])
            blocks[at, :, at, :] += inverses[g]
            found[g], start = blocks[at, :, at, :], stop
        root = across = solved = None
        if covariances:
            count, k, _ = next(iter(products.values()))[0].shape
            blocks, across = np.zeros((count, k, u, k, u)), np.zeros((count, k, u, size, u))
            for (a, b), (block, cross, _) in products.items():
                blocks[:, :, a, :, b] = blocks[:, :, b, :, a] = block
                across[:, :, a, :, b] = across[:, :, b, :, a] = cross
            across = across.reshape(count, k * u, size * u)
            found[design.first] = blocks.reshape(count, k * u, k * u) + inverses[design.first]
            root = np.linalg.cholesky(found[design.first])
            solved = _solve(root, across)
            rest = rest - across.reshape(-1, size * u).T @ solved.reshape(-1, size * u)
        try:
            schur = scipy.linalg.cholesky(rest, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            schur = None
        scale = np.sqrt(np.abs(np.diag(rest)).max())
        if schur is None or not np.diag(schur).min() > 1e-8 * scale:
            raise ValueError(
                "The rows do not determine the fixed effects; wanted more rows, a latent whose entries differ, or "
                "`prior` > 0."
            )
        return cls(design, root, across, solved, schur, [found[g] for g in range(len(covariances))])

    @property
    def log_det(self) -> float:
        """The log-determinant of the precision."""
        found = 2 * np.log(np.diag(self.schur)).sum()
        if self.root is not None:
            found += 2 * np.log(np.diagonal(self.root, axis1=1, axis2=2)).sum()
        return float(found)

    def solve(self, gradient: list[np.ndarray]) -> list[np.ndarray]:
        """The inverse of the precision times something of the shapes of the coefficients."""
        design = self.design
        shapes = design.shapes
        chosen = design.first + 1 if design.counts else None
        rest = np.concatenate([one.ravel() for g, one in enumerate(gradient) if g != chosen])
        if chosen is not None:
            own = gradient[chosen].reshape(len(self.root), -1)
            half = _solve(self.root, own[..., np.newaxis])[..., 0]
            rest = rest - self.across.reshape(-1, len(rest)).T @ half.ravel()
        rest = scipy.linalg.cho_solve((self.schur, True), rest, check_finite=False)
        found, start = [], 0
        for g, shape in enumerate(shapes):
            if g == chosen:
                found.append((half - self.solved @ rest).reshape(shape))
                continue
            stop = start + int(np.prod(shape))
            found.append(rest[start:stop].reshape(shape))
            start = stop
        return found

    def covariances(self) -> list[np.ndarray]:
        """The covariance of the effects of each level of each group, `(L, k u, k u)`, the others integrated out."""
        design = self.design
        if not design.counts:
            return []
        inverse = scipy.linalg.cho_solve((self.schur, True), np.eye(len(self.schur)), check_finite=False)
        found, start = [], design.phi.shape[1] * design.units
        for g, (count, size) in enumerate(zip(design.counts, design.sizes, strict=True)):
            if g == design.first:
                width = self.root.shape[-1]
                own = _solve(self.root, np.broadcast_to(np.eye(width), self.root.shape))
                half = (self.solved.reshape(-1, len(inverse)) @ inverse).reshape(self.solved.shape)
                found.append(own + half @ self.solved.transpose(0, 2, 1))
                continue
            width, stop = size * design.units // count, start + size * design.units
            blocks = inverse[start:stop, start:stop].reshape(count, width, count, width)
            found.append(blocks[np.arange(count), :, np.arange(count), :])
            start = stop
        return found


def _solve(root, right):
    """The inverse of L L^T times `right`, for each L."""
    if root.shape[-1] == 1:
        return right / root**2
    half = np.linalg.solve(root, right)
    return np.linalg.solve(root.transpose(0, 2, 1), half)
