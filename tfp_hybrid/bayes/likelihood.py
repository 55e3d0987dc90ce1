"""`Likelihood`: log p(y|z) of a head as a function of its coefficients, with its gradient and its information."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.bayes.rows import Rows
from tfp_hybrid.heads import Head


@dataclasses.dataclass(frozen=True, eq=False)
class Likelihood:
    """log p(y | z, B), summed over the weighted rows, for coefficients B `(d + 1, u)` of a head.

    Attributes:
      head: The head.
      rows: The rows.
    """

    head: Head
    rows: Rows

    @functools.cached_property
    def units(self) -> int:
        """u, the number of linear predictors."""
        return self.head.kernel.shape[-1]

    @functools.cached_property
    def _value_and_gradient(self):
        def function(eta, y):
            return tfp.math.value_and_gradient(self._log_prob(y), eta)

        return tf.function(function, autograph=False, reduce_retracing=True)

    @functools.cached_property
    def _information(self):
        return tf.function(self.head.information, autograph=False, reduce_retracing=True)

    @functools.cached_property
    def _total_information(self):
        return tf.function(self.head.total_information, autograph=False, reduce_retracing=True)

    def _log_prob(self, y):
        return lambda eta: self.head.distribution(self.head.shaped(eta)).log_prob(y)

    def _chunks(self, coefficients):
        dtype = self.head.variable_dtype
        for z, y, weights in self.rows.chunks(self.units):
            phi = np.concatenate([z.astype(float), np.ones((len(z), 1))], 1)
            yield phi, tf.constant(phi @ coefficients, dtype), tf.constant(y), weights

    def value(self, coefficients: np.ndarray) -> float:
        """The sum of log p(y | z, B) in nats."""
        parts = [(self._value_and_gradient(eta, y)[0], weights) for _, eta, y, weights in self._chunks(coefficients)]
        return float(sum(weights @ log_prob.numpy().astype(float) for log_prob, weights in parts))

    def gradient(self, coefficients: np.ndarray) -> np.ndarray:
        """The gradient with respect to B, `(d + 1, u)`."""
        total = np.zeros_like(coefficients)
        for phi, eta, y, weights in self._chunks(coefficients):
            slope = self._value_and_gradient(eta, y)[1].numpy().astype(float)
            total += phi.T @ (weights[:, np.newaxis] * slope)
        return total

    def information(self, coefficients: np.ndarray, structure: str) -> tuple[np.ndarray, ...]:
        """The information of the rows at B.

        Returns:
          "full": a matrix of `(d + 1) u` rows. "diagonal": its diagonal, `(d + 1, u)`. "kronecker": the matrices
          `(d + 1, d + 1)` and `(u, u)` whose Kronecker product is that of independent phi and information.
        """
        features, units = coefficients.shape
        if structure == "kronecker":
            left, right = np.zeros((features, features)), np.zeros((units, units))
            for phi, eta, y, weights in self._chunks(coefficients):
                left += phi.T @ (weights[:, np.newaxis] * phi)
                right += self._total_information(eta, y, tf.constant(weights, eta.dtype)).numpy()
            return left, right / self.rows.total
        shape = (features, units) if structure == "diagonal" else (features, units, features, units)
        total = np.zeros(shape)
        for phi, eta, y, weights in self._chunks(coefficients):
            each = self._information(eta, y).numpy() * weights[:, np.newaxis, np.newaxis]
            if structure == "diagonal":
                total += (phi**2).T @ np.diagonal(each, axis1=1, axis2=2)
                continue
            for u in range(units):
                for v in range(u, units):
                    if each[:, u, v].any():
                        total[:, u, :, v] += phi.T @ (each[:, u, v, np.newaxis] * phi)
        if structure == "diagonal":
            return (total,)
        for u in range(units):
            for v in range(u):
                total[:, u, :, v] = total[:, v, :, u].T
        return (total.reshape(features * units, -1),)
