"""`maximized`: expectation maximization of variance components, extrapolated as in SQUAREM."""

import dataclasses

import numpy as np

_SAME = 1e-5  # the change of a root of a variance that is none, relative to it
_FLAT = 1e-4  # a change of the evidence, in nats, that is none
_LONGEST = 4.0  # extrapolation, in steps, until longer ones have turned out well
_LIMIT = 1e5  # of them
_LEAST = np.log(1e-5)  # of the root of a variance, in the unit of the linear predictor


@dataclasses.dataclass(frozen=True)
class State:
    """Where the search is.

    Attributes:
      coefficients: `[B, U_1, ...]`.
      components: C_g, `(k u, k u)`.
      noise: The variance of the noise of a Normal head, `(u,)`; ones for others.
      alone: The covariance of the effects of each level, `(L, k u, k u)`.
      conditional: The same, given all other coefficients.
    """

    coefficients: list
    components: list
    noise: np.ndarray
    alone: list = ()
    conditional: list = ()


@dataclasses.dataclass(frozen=True)
class Found:
    """The last state, its log evidence, how many rounds it took, and whether it changed no more."""

    state: State
    log_evidence: float
    rounds: int
    converged: bool


def maximized(problem, state, max_rounds) -> Found:
    """Repeats expectation maximization, with an extrapolation after each two steps.

    It ends where the variance components change no more; or, as where a variance goes to zero, where the evidence has
    changed no more for two extrapolations.

    An extrapolation may lead too far, to a lower evidence or to where no linear algebra is possible. The next one is
    then shorter, and longer after one that has turned out well.

    Args:
      problem: It has `step(state)`, which returns the log evidence of a state and the next state, and
        `slack(log_evidence)`, by how much the evidence may fall.
      state: The first state.
      max_rounds: After how many steps to stop.

    References:
      Varadhan and Roland 2008, "Simple and Globally Convergent Methods for Accelerating the Convergence of Any EM
      Algorithm".
    """
    rounds, log_evidence, flat, converged = 0, -np.inf, 0, False
    known, longest = state, _LONGEST
    while rounds < max_rounds and not converged:
        before, first = _tried(problem, state, known)
        if state is not known and not before >= log_evidence - problem.slack(log_evidence):  # extrapolated too far
            state, longest = known, max(longest / 4, 1.0)
            before, first = problem.step(state)
            rounds += 1
        else:
            longest = min(4 * longest, _LIMIT)  # also after plain steps, or there would be no extrapolation any more
        _, second = problem.step(first)
        flat = flat + 1 if abs(before - log_evidence) < _FLAT else 0
        log_evidence, rounds, known = before, rounds + 2, second
        start, middle, end = (_packed(one) for one in (state, first, second))
        change, turn = middle - start, end - 2 * middle + start
        converged = bool(np.abs(end - middle).max() < _SAME or flat == 2)
        length = np.clip(np.sqrt((change @ change) / max(turn @ turn, 1e-300)), 1, longest)
        state = second
        if not converged and length > 1:
            state = _unpacked(start + 2 * length * change + length**2 * turn, second)
    log_evidence, last = problem.step(known)
    return Found(dataclasses.replace(last, components=known.components), log_evidence, rounds, converged)


def _tried(problem, state, known):
    """A step from a state that may have been extrapolated to where no linear algebra is possible."""
    try:
        with np.errstate(all="ignore" if state is not known else None):
            return problem.step(state)
    except (ValueError, np.linalg.LinAlgError):
        if state is known:
            raise
        return -np.inf, known


def _packed(state):
    """The variance components as numbers without bounds: logarithms of their roots' diagonals, the rest relative."""
    parts = [0.5 * np.log(state.noise)]
    for covariance in state.components:
        root = np.linalg.cholesky(covariance + 1e-12 * np.eye(len(covariance)))
        diagonal = np.diag(root)
        below = root[np.tril_indices(len(root), -1)] / np.repeat(diagonal, np.arange(len(root)))
        parts += [np.maximum(np.log(diagonal), _LEAST), below]
    return np.concatenate(parts)


def _unpacked(packed, like):
    noise, packed = np.exp(2 * packed[: len(like.noise)]), packed[len(like.noise) :]
    components = []
    for covariance in like.components:
        size = len(covariance)
        diagonal, below, packed = packed[:size], packed[size : size * (size + 1) // 2], packed[size * (size + 1) // 2 :]
        root = np.diag(np.exp(np.clip(diagonal, _LEAST, None)))
        root[np.tril_indices(size, -1)] = below * np.repeat(np.exp(diagonal), np.arange(size))
        components.append(root @ root.T)
    return dataclasses.replace(like, noise=noise, components=components)
