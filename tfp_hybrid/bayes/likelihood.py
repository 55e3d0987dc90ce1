"""`Likelihood`: log p(y|z) of a head as a function of its coefficients, with its gradient and its information."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tfp_hybrid.bayes.rows import Rows
from tfp_hybrid.execution import graph_function
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

    def value_and_gradient(self, coefficients: np.ndarray) -> tuple[float, np.ndarray]:
        """The sum of log p(y | z, B) in nats, and its gradient with respect to B, `(d + 1, u)`."""
        total, gradient = 0.0, np.zeros_like(coefficients)
        for phi, y, weights in self._chunks(self.units):
            log_prob, slope = self.head.compiled_slope(tf.matmul(phi, tf.constant(coefficients, phi.dtype)), y)
            total += weights @ log_prob.numpy().astype(float)
            weighted = tf.constant(weights[:, np.newaxis], phi.dtype) * slope
            gradient += tf.matmul(phi, weighted, transpose_a=True).numpy()
        return float(total), gradient

    def information(self, coefficients: np.ndarray, structure: str) -> tuple[np.ndarray, ...]:
        """The information of the rows at B.

        Returns:
          "full": a matrix of `(d + 1) u` rows. "blocks": its part of each linear predictor, `(u, d + 1, d + 1)`.
          "diagonal": its diagonal, `(d + 1, u)`. "kronecker": the matrices `(d + 1, d + 1)` and `(u, u)` whose
          Kronecker product is that of independent phi and information.
        """
        if structure == "kronecker":
            return self._left, self._right(coefficients)
        features, units = coefficients.shape
        shapes = {"diagonal": (features, units), "blocks": (units, features, features)}
        total = np.zeros(shapes.get(structure, (features, units, features, units)))
        for phi, y, weights in self._chunks(units**2):
            eta = tf.matmul(phi, tf.constant(coefficients, phi.dtype))
            each = self.head.compiled_information(eta, y).numpy()
            each, phi = each * weights[:, np.newaxis, np.newaxis], phi.numpy().astype(float)
            if structure == "diagonal":
                total += (phi**2).T @ np.diagonal(each, axis1=1, axis2=2)
                continue
            if structure == "blocks":
                total += np.stack([phi.T @ (each[:, u, u, np.newaxis] * phi) for u in range(units)])
                continue
            for u in range(units):
                for v in range(u, units):
                    if each[:, u, v].any():
                        total[:, u, :, v] += phi.T @ (each[:, u, v, np.newaxis] * phi)
        if structure != "full":
            return (total,)
        for u in range(units):
            for v in range(u):
                total[:, u, :, v] = total[:, v, :, u].T
        return (total.reshape(features * units, -1),)

    @functools.cached_property
    def _left(self):
        total = 0.0
        for phi, _, weights in self._chunks(self.units):
            phi = phi.numpy().astype(float)
            total = total + phi.T @ (weights[:, np.newaxis] * phi)
        return total

    def _right(self, coefficients):
        has_sum = type(self.head).total_information is not Head.total_information
        total = np.zeros((self.units, self.units))
        for phi, y, weights in self._chunks(self.units if has_sum else self.units**2):
            b, weights = tf.constant(coefficients, phi.dtype), tf.constant(weights, phi.dtype)
            total += self._total_information(phi, b, y, weights).numpy()
        return total / self.rows.total

    def _chunks(self, entries):
        """phi = (z, 1) and y as tensors, and weights, of as many rows as memory holds that many entries of each for."""
        for z, y, weights in self.rows.chunks(entries):
            yield tf.constant(np.concatenate([z, np.ones_like(z[:, :1])], 1)), tf.constant(y), weights

    @functools.cached_property
    def _total_information(self):
        def function(phi, coefficients, y, weights):
            return self.head.total_information(tf.matmul(phi, coefficients), y, weights)

        return graph_function(function)
