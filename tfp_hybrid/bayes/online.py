"""`Online`: a posterior to which rows come one by one, each at the cost of a rank of its matrix."""

import numpy as np
import tensorflow as tf

from tfp_hybrid.heads import Head
from tfp_hybrid.heads.posterior import Posterior

_MOST_HALVINGS = 30


class Online:
    """The posterior of a head with independent linear predictors, in float64 and outside of the model.

    `add` gives what `bayes.update` gives, a Newton step from the mode so far, without an inverse: with U the rows phi,
    each times the root of its information,

        C' = C - C U^T (I + U C U^T)^-1 U C,      M' = M + t C' gradient,      t = 1, 1/2, 1/4, ...

    where the step is halved until it makes the posterior more likely, as it seldom has to be.

    Args:
      head: A head whose posterior has the structure "blocks".
      forgetting: The factor of the information of all earlier rows, for each further row; with a factor below 1, each
        `add` inverts the matrices.
      center: The coefficients `(d + 1, u)` to which forgetting leads back; None is zero, the mean of the prior.
    """

    def __init__(self, head: Head, forgetting: float = 1.0, center: np.ndarray | None = None):
        self._head, self._forgetting, self._center = head, forgetting, 0.0 if center is None else center
        posterior = head.posterior
        self._facts = {"kernel_prior": posterior.kernel_prior, "bias_prior": posterior.bias_prior}
        self._rows, self._prior, self._mean = posterior.rows, posterior.prior, posterior.get("mean")
        self._information, self._covariance = posterior.get("information"), posterior.get("covariance")

    def predictors(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the mean and the standard deviation of the linear predictors of latents `(n, d)`, `(n, u)` each."""
        phi = _phi(z)
        variance = np.einsum("nf,ufn->nu", phi, self._covariance @ phi.T)
        return phi @ self._mean, np.sqrt(np.maximum(variance, 0))

    def add(self, z: np.ndarray, y: np.ndarray):
        """Adds rows, the oldest first.

        Args:
          z: Their latents, `(n, d)`.
          y: Their responses, `(n, k)`.
        """
        phi, weights = _phi(z), self._forgetting ** np.arange(len(z) - 1.0, -1, -1)
        y = self._head.prepare_labels(y)
        log_prob, gradient = self._slope(phi @ self._mean, y)
        information = self._head.compiled_information(self._eta(phi @ self._mean), y).numpy().astype(float)
        gradient = phi.T @ (weights[:, np.newaxis] * gradient)
        roots = np.sqrt(weights[:, np.newaxis] * np.diagonal(information, axis1=1, axis2=2))
        forgotten = self._forgetting ** len(z)
        self._rows = forgotten * self._rows + weights.sum()
        # What is left of the gradient of the rows before: at the mode it was the prior's.
        left = -(1 - forgotten) * self._prior[:, np.newaxis] * (self._mean - self._center)
        gradient += left
        self._information *= forgotten
        step, decrease = np.zeros_like(self._mean), 0.0
        for unit in range(self._mean.shape[1]) if forgotten < 1 else np.flatnonzero(roots.any(0) | gradient.any(0)):
            told = roots[:, unit] > 0
            rows = roots[told, unit, np.newaxis] * phi[told]
            before = self._information[unit] + np.diag(self._prior)
            self._information[unit] += rows.T @ rows
            if forgotten < 1 or len(rows) > phi.shape[1]:
                self._covariance[unit] = np.linalg.inv(self._information[unit] + np.diag(self._prior))
            else:
                half = self._covariance[unit] @ rows.T
                self._covariance[unit] -= half @ np.linalg.solve(np.eye(len(rows)) + rows @ half, half.T)
            step[:, unit] = self._covariance[unit] @ gradient[:, unit]
            decrease += 0.5 * step[:, unit] @ before @ step[:, unit]
        for halving in range(_MOST_HALVINGS):
            share = 0.5**halving
            gain = weights @ (self._slope(phi @ (self._mean + share * step), y)[0] - log_prob)
            if gain + share * np.sum(left * step) >= share**2 * decrease:
                self._mean += share * step
                return

    def _eta(self, eta):
        return tf.constant(eta, self._head.variable_dtype)

    def _slope(self, eta, y):
        """log p(y | eta), `(n,)`, and its gradient, `(n, u)`."""
        log_prob, gradient = self._head.compiled_slope(self._eta(eta), y)
        return log_prob.numpy().astype(float), gradient.numpy().astype(float)

    def posterior(self) -> Posterior:
        """Returns the posterior as weights for the head."""
        dtype = self._head.variable_dtype
        found = Posterior(*self._mean.shape, "blocks", rows=self._rows, dtype=dtype, **self._facts)
        found.set(mean=self._mean, information=self._information, covariance=self._covariance)
        return found


def _phi(z):
    return np.concatenate([np.asarray(z, float), np.ones((len(z), 1))], 1)
