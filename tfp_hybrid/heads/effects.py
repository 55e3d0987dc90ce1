"""`Effects`: the posterior of the random effects of a `MixedEffects` head."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.posterior import Posterior, root

tfd = tfp.distributions
_START = 0.3  # the standard deviation of an effect before any training


class Effects(Posterior):
    """q(U): a Normal for the effects of each level, independent of those of all others.

        eta = B^T phi + sum_g sum_j s_j U_g[level, j],      U_g[l] ~ Normal(m_l, S_l)

    with s = (1, slopes). A level that is not known has the prior, Normal(0, C_g), whose covariance is that of highest
    evidence given q:

        C_g = mean_l (m_l m_l^T + S_l + R_l)

    Training has R = 0. `bayes.fit_effects` knows the correlations of levels with one another and with B, which q leaves
    out: S_l is then the covariance given all of these, as in the product of Normals that is nearest to the posterior,
    and S_l + R_l is that of the level alone.

    The effects of a level, `k u` numbers, are in the order (intercept of each predictor, first slope of each, ...).

    Args:
      fixed: A function of what the head inside sees, `(..., d + c)`, that returns its linear predictors, `(..., u)`.
      coefficients: A function that returns B, the kernel and bias, `(d + 1, u)`.
      sizes: The number of levels L and of effects on a predictor k of each group.
      levels: A number that stands for the ids of the levels, which weights are loaded for.
      train_size: N.
      **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(
        self,
        fixed: Callable,
        coefficients: Callable[[], tf.Tensor],
        sizes: list[tuple[int, int]],
        levels: int,
        train_size: float,
        **kwargs,
    ):
        self.fixed, self.coefficients, self.sizes = fixed, coefficients, sizes
        self.effects_of_level = [k * coefficients().shape[1] for _, k in sizes]
        facts = {"kernel_prior": 0.0}
        super().__init__(*coefficients().shape, "blocks", rows=train_size, trainable=True, **facts, **kwargs)
        self.levels = self.add_weight((), "zeros", "int64", trainable=False, autocast=False, name="levels")
        self.levels.assign(levels)
        for i, size in enumerate(self.effects_of_level):
            diagonal = np.diag(np.full(size, np.log(_START)))
            raw = tfp.math.fill_triangular_inverse(tf.constant(diagonal, self.dtype))
            self._raw_root(i).assign(tf.broadcast_to(raw, self._raw_root(i).shape))
        self.rest = [getattr(self, f"rest_{i}") for i in range(len(sizes))]
        for weight in self.rest:
            weight.trainable = False
        self.means[0].regularizer = lambda _: self.divergence() / train_size

    def load_own_variables(self, store):
        """As `keras.layers.Layer.load_own_variables`.

        Raises:
          ValueError: If the weights are those of other levels; they are not loaded then.
        """
        before = [(weight, weight.numpy()) for weight in self.weights]
        wanted = int(self.levels.numpy())
        try:
            super().load_own_variables(store)
            fits = self.levels.numpy() == wanted
        except ValueError:  # of another number of levels or effects; or Keras tries once more
            fits = False
        if not fits:
            for weight, value in before:
                weight.assign(value)
            raise ValueError(
                "MixedEffects: the weights are those of groups with other levels or slopes; wanted a `Group` of the "
                "same ids, or `keras.models.load_model` of the whole model."
            )

    def shapes(self):
        found = {}
        for i, ((levels, _), size) in enumerate(zip(self.sizes, self.effects_of_level, strict=True)):
            below = size * (size + 1) // 2
            found |= {f"mean_{i}": (levels, size), f"root_{i}": (levels, below), f"rest_{i}": (levels, size, size)}
        return found

    @property
    def mean(self) -> tf.Tensor:
        """B, `(d + 1, u)`."""
        return self.coefficients()

    @property
    def means(self) -> list:
        """The means of each group, `(L, k u)`."""
        return [getattr(self, f"mean_{i}") for i in range(len(self.sizes))]

    def _raw_root(self, i):
        return getattr(self, f"root_{i}")

    def roots(self, i: int) -> tf.Tensor:
        """The lower triangular roots of the covariances of a group, `(L, k u, k u)`."""
        matrix = tfp.math.fill_triangular(tf.convert_to_tensor(self._raw_root(i)))
        return tf.linalg.set_diag(matrix, tf.exp(tf.linalg.diag_part(matrix)))

    def set_effects(self, i: int, mean: np.ndarray, covariance: np.ndarray, rest: np.ndarray):
        """Sets what is known of a group: m_l `(L, k u)`, and S_l and R_l, `(L, k u, k u)`."""
        self.rest[i].assign(rest.astype(self.variable_dtype))
        lower = np.linalg.cholesky(covariance)
        diagonal = np.arange(lower.shape[-1])
        lower[:, diagonal, diagonal] = np.log(lower[:, diagonal, diagonal])
        self.means[i].assign(mean.astype(self.variable_dtype))
        self._raw_root(i).assign(tfp.math.fill_triangular_inverse(lower.astype(self.variable_dtype)))

    def prior_covariance(self, i: int) -> tf.Tensor:
        """C_g, `(k u, k u)`."""
        lower = self.roots(i)
        mean = tf.convert_to_tensor(self.means[i])
        total = tf.matmul(mean, mean, transpose_a=True) + tf.einsum("lij,lkj->ik", lower, lower)
        return (total + tf.reduce_sum(self.rest[i], 0)) / self.sizes[i][0]

    def divergence(self) -> tf.Tensor:
        """KL(q || prior) in nats, over all levels."""
        found = 0.0
        for i, (levels, _) in enumerate(self.sizes):
            diagonal = tf.linalg.diag_part(tfp.math.fill_triangular(tf.convert_to_tensor(self._raw_root(i))))
            prior = self.prior_covariance(i)
            # The sum of the traces of the divergences is that of C^-1 (L C - sum_l R_l), less the number of effects.
            trace = tf.linalg.trace(tf.linalg.solve(prior, tf.reduce_sum(self.rest[i], 0)))
            found += (levels * tf.linalg.logdet(prior) - trace) / 2 - tf.reduce_sum(diagonal)
        return found

    def own(self, seen) -> tuple[tf.Tensor, list[tuple[tf.Tensor, tf.Tensor]]]:
        """What the head inside sees, and for each group the number of the level and s, `(..., k)`."""
        seen = tf.cast(seen, self.variable_dtype)
        count = sum(k for _, k in self.sizes)  # the number of the level has the place of the intercept
        inside, rest = seen[..., : seen.shape[-1] - count], seen[..., seen.shape[-1] - count :]
        groups = []
        for _, k in self.sizes:
            level, slopes, rest = tf.cast(rest[..., 0], tf.int32), rest[..., 1:k], rest[..., k:]
            groups.append(
                (level, tf.concat([tf.ones_like(slopes[..., :1]) if k > 1 else _one(level, self), slopes], -1))
            )
        return inside, groups

    def linear_predictor(self, z):
        inside, groups = self.own(z)
        eta = self.fixed(inside)
        for i, (level, s) in enumerate(groups):
            mean = tf.gather(tf.convert_to_tensor(self.means[i]), tf.maximum(level, 0))
            mean = tf.where(level[..., tf.newaxis] >= 0, mean, 0)
            eta += tf.einsum("...ku,...k->...u", self._by_predictor(mean), s)
        return eta

    def predictor_factor(self, z):
        covariance = 0.0
        for i, (level, s) in enumerate(self.own(z)[1]):
            of_level = tf.gather(self.roots(i), tf.maximum(level, 0))
            new = tf.linalg.cholesky(self.prior_covariance(i))
            lower = tf.where(level[..., tf.newaxis, tf.newaxis] >= 0, of_level, new)
            shape = tf.concat([tf.shape(lower)[:-2], [s.shape[-1], self.units, lower.shape[-1]]], 0)
            half = tf.einsum("...kuj,...k->...uj", tf.reshape(lower, shape), s)
            covariance += tf.matmul(half, half, transpose_b=True)
        return root(covariance)

    def _by_predictor(self, effects):
        return tf.reshape(effects, tf.concat([tf.shape(effects)[:-1], [-1, self.units]], 0))

    def of_group(self, i: int) -> tfd.Distribution:
        """q of a group: batch shape `(L,)`, event shape `(k u,)`."""
        return tfd.MultivariateNormalTriL(tf.convert_to_tensor(self.means[i]), self.roots(i))

    def alone(self, i: int) -> tfd.Distribution:
        """Normal(m_l, S_l + R_l), the posterior of each level with all others integrated out."""
        lower = self.roots(i)
        covariance = tf.matmul(lower, lower, transpose_b=True) + tf.convert_to_tensor(self.rest[i])
        return tfd.MultivariateNormalTriL(tf.convert_to_tensor(self.means[i]), tf.linalg.cholesky(covariance))

    def distribution(self):
        """q of all groups."""
        return tfd.JointDistributionSequential([self.of_group(i) for i in range(len(self.sizes))])


def _one(level, effects):
    return tf.ones_like(level, effects.variable_dtype)[..., tf.newaxis]
