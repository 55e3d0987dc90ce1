"""Laplace's approximation: the mode of the coefficients, the information there, and the prior of highest evidence."""

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np
import scipy.linalg

from tfp_hybrid.bayes.likelihood import Likelihood
from tfp_hybrid.heads.posterior import MOST_COEFFICIENTS

_MOST_STEPS = {"full": 50, "blocks": 50, "kronecker": 20}
_MOST_ROUNDS, _MOST_HALVINGS = 30, 30
# The increase of the log posterior that a step still has to promise, relative to its size.
_CLOSE = {"full": 1e-10, "blocks": 1e-10, "kronecker": 1e-7}
_NEAR = {"full": 1e-5, "blocks": 1e-5, "kronecker": 1e-5}  # where only the prior is looked for
_SAME_PRIOR = 1e-3  # relative change of the prior's precision
_PRECISIONS = (1e-8, 1e8)
_SINGULAR = 1e-14  # the ratio of the least precision to the largest that is none any more


@dataclasses.dataclass(frozen=True)
class Curvature:
    """The precision of the posterior: the information of the rows and that of the prior.

    Attributes:
      structure: "full", "kronecker", "blocks" or "diagonal".
      information: As `Likelihood.information`.
      prior: The precision of the prior of each row of B, `(d + 1,)`.
      units: u.
    """

    structure: str
    information: tuple[np.ndarray, ...]
    prior: np.ndarray
    units: int

    def inverse(self) -> dict[str, np.ndarray]:
        """The weights of a `Posterior` that stand for the covariance.

        Raises:
          ValueError: If the precision is singular.
        """
        if self.structure == "diagonal":
            precision = self.information[0] + self.prior[:, np.newaxis]
            if not precision.min() > _SINGULAR * precision.max():
                raise _undetermined()
            return {"information": self.information[0], "variances": 1 / precision}
        if self.structure == "full":
            return {"information": self.information[0], "covariance": _inverse(self._precision())}
        if self.structure == "blocks":
            covariance = np.stack([_inverse(block + np.diag(self.prior)) for block in self.information[0]])
            return {"information": self.information[0], "covariance": covariance}
        # With the prior's precision as the unit of B, the prior is the identity in every basis.
        if not self.prior.max():
            raise _undetermined()
        root = np.sqrt(np.maximum(self.prior, 1e-12 * self.prior.max()))
        left, left_basis = scipy.linalg.eigh(self.information[0] / root[:, np.newaxis] / root)
        right, right_basis = scipy.linalg.eigh(self.information[1])
        precision = np.outer(np.maximum(left, 0), np.maximum(right, 0)) + 1
        return {
            "left_information": self.information[0],
            "right_information": self.information[1],
            "left": left_basis / root[:, np.newaxis],
            "right": right_basis,
            "variances": 1 / precision,
        }

    def step(self, gradient: np.ndarray) -> np.ndarray:
        """Newton's step, the covariance times the gradient `(d + 1, u)`; a full matrix is not inverted for it.

        Raises:
          ValueError: If the precision is singular.
        """
        if self.structure != "full":
            return self.solve(self.inverse(), gradient)
        root = cholesky(self._precision()), True
        return scipy.linalg.cho_solve(root, gradient.ravel(), check_finite=False).reshape(gradient.shape)

    def _precision(self):
        return self.information[0] + np.diag(np.repeat(self.prior, self.units))

    def solve(self, inverse: dict, gradient: np.ndarray) -> np.ndarray:
        """The covariance times a matrix `(d + 1, u)`."""
        if self.structure == "full":
            return (inverse["covariance"] @ gradient.ravel()).reshape(gradient.shape)
        if self.structure == "blocks":
            return np.einsum("ufg,gu->fu", inverse["covariance"], gradient)
        if self.structure == "diagonal":
            return inverse["variances"] * gradient
        left, right = inverse["left"], inverse["right"]
        return left @ (inverse["variances"] * (left.T @ gradient @ right)) @ right.T

    def log_det(self, inverse: dict) -> float:
        """The log-determinant of the covariance."""
        if self.structure in ("full", "blocks"):
            return float(np.linalg.slogdet(inverse["covariance"])[1].sum())
        total = np.sum(np.log(inverse["variances"]))
        if self.structure == "kronecker":
            total += 2 * self.units * np.linalg.slogdet(inverse["left"])[1]
        return float(total)

    def kernel_variance(self, inverse: dict) -> float:
        """The sum of the variances of the kernel's entries."""
        if self.structure == "full":
            return float(np.diag(inverse["covariance"])[: -self.units].sum())
        if self.structure == "blocks":
            return float(np.diagonal(inverse["covariance"], axis1=1, axis2=2)[:, :-1].sum())
        if self.structure == "diagonal":
            return float(inverse["variances"][:-1].sum())
        return float((inverse["left"][:-1] ** 2 @ inverse["variances"]).sum())


@dataclasses.dataclass(frozen=True)
class Mode:
    """The mode of the posterior, and what is known there."""

    coefficients: np.ndarray
    curvature: Curvature
    inverse: dict
    log_likelihood: float

    @property
    def log_evidence(self) -> float:
        """log p(y | x) in nats by Laplace's approximation; a flat prior of the bias has density 1 there."""
        prior, units = self.curvature.prior, self.curvature.units
        proper = prior[prior > 0]
        log_prior = 0.5 * units * np.sum(np.log(proper)) - 0.5 * units * len(proper) * np.log(2 * np.pi)
        log_prior -= 0.5 * np.sum(prior[:, np.newaxis] * self.coefficients**2)
        log_volume = 0.5 * self.coefficients.size * np.log(2 * np.pi) + 0.5 * self.curvature.log_det(self.inverse)
        return self.log_likelihood + log_prior + log_volume


def mode(
    likelihood: Likelihood, structure: str, prior: np.ndarray, start: np.ndarray, close: dict[str, float] = _CLOSE
) -> Mode:
    """Finds the mode of log p(y | z, B) + log p(B) by Newton's steps, and the curvature of the structure there.

    The steps take the whole information where it is one of blocks or its matrix is not too large.

    Args:
      likelihood: The likelihood.
      structure: "full", "kronecker", "blocks" or "diagonal".
      prior: The precision of the prior of each row of B, `(d + 1,)`.
      start: Coefficients to start from, `(d + 1, u)`.
      close: The relative increase that a step still has to promise, by the structure of the steps.

    Raises:
      ValueError: If the information is singular and the prior is flat.
    """
    here = start
    of_steps = "full" if start.size <= MOST_COEFFICIENTS else "kronecker"
    of_steps = "blocks" if likelihood.head.has_independent_predictors else of_steps

    def log_posterior(coefficients):
        log_likelihood, gradient = likelihood.value_and_gradient(coefficients)
        height = log_likelihood - 0.5 * np.sum(prior[:, np.newaxis] * coefficients**2)
        return height, log_likelihood, gradient - prior[:, np.newaxis] * coefficients

    height, log_likelihood, gradient = log_posterior(here)
    for _ in range(_MOST_STEPS[of_steps]):
        curvature = Curvature(of_steps, likelihood.information(here, of_steps), prior, here.shape[1])
        step = curvature.step(gradient)
        promised = np.sum(gradient * step)
        if not np.isfinite(promised):
            raise ValueError("The head's log p(y|x) is not finite near its weights; wanted a trained model.")
        if promised <= close[of_steps] * (1 + abs(height)):
            here, log_likelihood = here + step, log_likelihood + 0.5 * promised
            break
        for halving in range(_MOST_HALVINGS):
            there = here + step / 2**halving
            found = log_posterior(there)
            if np.isfinite(found[0]) and found[0] > height:
                break
        else:
            break  # as high as rounding allows
        here, (height, log_likelihood, gradient) = there, found
    else:
        warnings.warn(f"bayes: the mode was not reached in {_MOST_STEPS[of_steps]} steps.", stacklevel=4)
    curvature = Curvature(structure, likelihood.information(here, structure), prior, here.shape[1])
    return Mode(here, curvature, curvature.inverse(), log_likelihood)


def at_weights(likelihood: Likelihood, coefficients: np.ndarray, structure: str) -> Callable[..., Mode]:
    """Returns a function of the prior, for which the given coefficients are the mode whatever it is."""
    log_likelihood, _ = likelihood.value_and_gradient(coefficients)
    information = likelihood.information(coefficients, structure)

    def found(prior, start=None, close=None):
        curvature = Curvature(structure, information, prior, coefficients.shape[1])
        return Mode(coefficients, curvature, curvature.inverse(), log_likelihood)

    return found


def with_evidence(find: Callable[..., Mode], start: np.ndarray, bias_prior: float) -> Mode:
    """Finds the mode under the prior precision of the kernel with the highest evidence, by MacKay's iteration.

    Args:
      find: Returns the mode under a prior, from coefficients to start from; `close` says how near it has to come.
      start: The coefficients to start from, `(d + 1, u)`.
      bias_prior: The precision of the prior of the bias.
    """
    features = start.shape[0]

    def at(precision, start, **options):
        return find(np.append(np.full(features - 1, precision), bias_prior), start, **options)

    precision = np.clip(start[:-1].size / max(np.sum(start[:-1] ** 2), 1e-8), 1e-2, 1e4)
    for _ in range(_MOST_ROUNDS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the last mode may warn
            found = at(precision, start, close=_NEAR)
        start = found.coefficients
        kernel = found.coefficients[:-1]
        determined = kernel.size - precision * found.curvature.kernel_variance(found.inverse)
        better = np.clip(max(determined, 1e-6) / max(np.sum(kernel**2), 1e-12), *_PRECISIONS)
        if abs(np.log(better / precision)) < _SAME_PRIOR:
            break
        precision = better
    return at(precision, start)


def cholesky(precision: np.ndarray) -> np.ndarray:
    """The lower triangular root of a precision.

    Raises:
      ValueError: If it is singular, or not finite.
    """
    if not np.isfinite(precision).all():
        raise ValueError("The information of the rows is not finite; wanted a trained model, or float64.")
    try:
        factor = scipy.linalg.cholesky(precision, lower=True)  # six times as fast as numpy beside TensorFlow
    except np.linalg.LinAlgError:
        raise _undetermined() from None
    if not np.diag(factor).min() ** 2 > _SINGULAR * np.diag(factor).max() ** 2:
        raise _undetermined()
    return factor


def _inverse(precision):
    below, _ = scipy.linalg.lapack.dpotri(cholesky(precision), lower=True)
    return np.tril(below) + np.tril(below, -1).T


def _undetermined():
    return ValueError(
        "The rows and the prior do not determine all coefficients (the information is singular); wanted a larger prior "
        "precision, more rows, or a latent without entries that depend on one another."
    )
