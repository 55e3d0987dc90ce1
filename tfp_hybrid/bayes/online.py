"""`Online`: a posterior to which rows come one by one, each at the cost of a rank of its matrix."""

import numpy as np
import tensorflow as tf

from tfp_hybrid.heads import Head
from tfp_hybrid.heads.posterior import Posterior


class Online:
    """The posterior of a head with independent linear predictors, in float64 and outside of the model.

    `add` gives what `bayes.update` gives, a step of Newton's from the former mode, without an inverse: with U the rows
    phi, each times the root of its information,

        C' = C - C U^T (I + U C U^T)^-1 U C,      M' = M + C' gradient

    Args:
      head: A head whose posterior has the structure "blocks".
      forgetting: The factor of all that rows told before, for each further row; with a factor below 1, each `add`
        inverts the matrices.
    """

    def __init__(self, head: Head, forgetting: float = 1.0):
        self._head, self._forgetting = head, forgetting
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
        eta = tf.constant(phi @ self._mean, self._head.variable_dtype)
        y = self._head.prepare_labels(y)
        gradient = self._head.compiled_slope(eta, y)[1].numpy().astype(float)
        information = np.diagonal(self._head.compiled_information(eta, y).numpy(), axis1=1, axis2=2).astype(float)
        gradient, roots = weights[:, np.newaxis] * gradient, np.sqrt(weights[:, np.newaxis] * information)
        self._rows = self._forgetting ** len(z) * self._rows + weights.sum()
        if self._forgetting < 1:
            # What is left of the gradient of the rows before: at the former mode it was the prior's.
            forgotten = self._forgetting ** len(z)
            self._information *= forgotten
            step = phi.T @ gradient - (1 - forgotten) * self._prior[:, np.newaxis] * self._mean
            for unit, root in enumerate(roots.T):
                rows = root[:, np.newaxis] * phi
                self._information[unit] += rows.T @ rows
                self._covariance[unit] = np.linalg.inv(self._information[unit] + np.diag(self._prior))
                self._mean[:, unit] += self._covariance[unit] @ step[:, unit]
            return
        for unit in np.flatnonzero(roots.any(0) | gradient.any(0)):
            rows = roots[:, unit, np.newaxis] * phi
            half = self._covariance[unit] @ rows.T
            self._covariance[unit] -= half @ np.linalg.solve(np.eye(len(rows)) + rows @ half, half.T)
            self._information[unit] += rows.T @ rows
            self._mean[:, unit] += self._covariance[unit] @ (phi.T @ gradient[:, unit])

    def posterior(self) -> Posterior:
        """Returns the posterior as weights for the head."""
        dtype = self._head.variable_dtype
        found = Posterior(*self._mean.shape, "blocks", rows=self._rows, dtype=dtype, **self._facts)
        found.set(mean=self._mean, information=self._information, covariance=self._covariance)
        return found


def _phi(z):
    return np.concatenate([np.asarray(z, float), np.ones((len(z), 1))], 1)
