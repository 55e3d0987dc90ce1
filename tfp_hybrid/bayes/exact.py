"""The exact posterior of linear regression with noise of unknown variance."""

import dataclasses

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special

from tfp_hybrid.bayes.laplace import cholesky

CONCENTRATION, RATE = 1e-6, 1e-6  # of the prior of the variance: no more than a millionth of a row
_LOG_PRECISIONS = (-14.0, 18.0)


@dataclasses.dataclass(frozen=True)
class Sums:
    """What linear regression needs to know of weighted rows; the sums of several sets of rows add up.

    Attributes:
      rows: The sum of the weights.
      information: phi^T phi, `(d + 1, d + 1)`.
      products: phi^T y, `(d + 1, k)`, for responses in units of their standard deviation.
      squares: y^T y of each response, `(k,)`.
    """

    rows: float
    information: np.ndarray
    products: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, phi: np.ndarray, y: np.ndarray, weights: np.ndarray) -> "Sums":
        """Returns the sums of rows phi `(n, d + 1)` and y `(n, k)`."""
        weighted = weights[:, np.newaxis] * phi
        return cls(weights.sum(), weighted.T @ phi, weighted.T @ y, weights @ y**2)

    def __add__(self, other: "Sums") -> "Sums":
        parts = dataclasses.fields(self)
        return Sums(*(getattr(self, part.name) + getattr(other, part.name) for part in parts))

    def posterior(self, prior: np.ndarray) -> dict:
        """Returns the weights of a `NormalInverseGamma`, and its log evidence in nats.

        Args:
          prior: The precision of the prior of each row of B relative to that of the noise, `(d + 1,)`.
        """
        factor = cholesky(self.information + np.diag(prior))
        mean = scipy.linalg.cho_solve((factor, True), self.products)
        covariance = scipy.linalg.cho_solve((factor, True), np.eye(len(prior)))
        proper = prior[prior > 0]
        # A flat prior takes one row for each coefficient, as in classical statistics.
        concentration = CONCENTRATION + 0.5 * (self.rows - (len(prior) - len(proper)))
        if concentration <= 0:
            raise ValueError(f"x has {self.rows:g} rows; wanted more rows than coefficients without a prior.")
        rates = RATE + 0.5 * np.maximum(self.squares - np.sum(mean * self.products, 0), 0)
        half_log_det = -np.log(np.diag(factor)).sum() + 0.5 * np.log(proper).sum()
        evidence = half_log_det - concentration * np.log(rates) + scipy.special.gammaln(concentration)
        evidence += CONCENTRATION * np.log(RATE) - scipy.special.gammaln(CONCENTRATION)
        evidence -= 0.5 * (self.rows - (len(prior) - len(proper))) * np.log(2 * np.pi)
        return {
            "mean": mean,
            "information": self.information,
            "covariance": (covariance + covariance.T) / 2,
            "concentration": concentration,
            "rates": rates,
            "log_evidence": float(evidence.sum()),
        }

    def best_precision(self, bias_prior: float) -> float:
        """The precision of the kernel's prior with the highest evidence."""
        features = len(self.information)

        def loss(log_precision):
            prior = np.append(np.full(features - 1, np.exp(log_precision)), bias_prior)
            return -self.posterior(prior)["log_evidence"]

        return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=_LOG_PRECISIONS, method="bounded").x))
