"""`Posterior`: what is known about the kernel and bias of a head, as weights that are saved inside of it."""

import keras
import numpy as np
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

tfb, tfd = tfp.bijectors, tfp.distributions

STRUCTURES = ("full", "kronecker", "blocks", "diagonal")
MOST_COEFFICIENTS = 4000  # whose covariance is a full matrix by default
DRAWS = 64  # of the linear predictors, where no quadrature is as cheap
_FACTS = ("kernel_prior", "bias_prior", "log_evidence", "rows", "is_stale")
_QUADRATURE = {1: 50, 2: 9}  # nodes for each linear predictor
_LEAST_WEIGHT = 1e-12  # of a node; what is farther out may overflow


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Posterior(keras.layers.Layer):
    """A Normal posterior of the coefficients B = (kernel, bias) of a head, given its training rows.

        p(B | data) ~ Normal(M, C),      C^-1 = information of the rows + precision of the prior

    B is a matrix `(d + 1, u)`: one row for each entry of z and a last one for the bias, one column for each linear
    predictor. So the predictors of one row, with phi = (z, 1), are

        eta = B^T phi ~ Normal(M^T phi, V),      V = (phi ⊗ I)^T C (phi ⊗ I)

    C is a matrix of `(d + 1) u` rows ("full"), or it is a Kronecker product in the basis of the eigenvectors of its
    two factors ("kronecker"), or it has one block of `d + 1` rows for each linear predictor ("blocks"), or entries on
    its diagonal only ("diagonal"). `bayes.fit` finds it; `heads.Variational` trains one.

    Args:
      features: d + 1.
      units: u, the number of linear predictors.
      structure: "full", "kronecker", "blocks" or "diagonal".
      kernel_prior: The precision of the prior on the kernel, Normal(0, 1 / kernel_prior).
      bias_prior: The precision of the prior on the bias; 0 is flat.
      log_evidence: log p(y | x) in nats, with B integrated out by Laplace's approximation.
      rows: The rows that it was found with, by their weights.
      **kwargs: Passed to `keras.layers.Layer`.

    References:
      MacKay 1992, "The Evidence Framework Applied to Classification Networks"; Ritter, Botev and Barber 2018, "A
      Scalable Laplace Approximation for Neural Networks" (the Kronecker product).
    """

    def __init__(
        self,
        features: int,
        units: int,
        structure: str = "full",
        kernel_prior: float = 1.0,
        bias_prior: float = 0.0,
        log_evidence: float = np.nan,
        rows: float = 0.0,
        **kwargs,
    ):
        kwargs.setdefault("trainable", False)
        super().__init__(**kwargs)
        if structure not in STRUCTURES:
            raise ValueError(f"{type(self).__name__}: `structure` is {structure!r}; wanted one of {STRUCTURES}.")
        self.features, self.units, self.structure = int(features), int(units), structure
        for name, shape in self.shapes().items():
            setattr(self, name, self.add_weight(shape=shape, initializer="zeros", name=name))
        self.facts = self.add_weight(shape=(len(_FACTS),), initializer="zeros", trainable=False, name="facts")
        self.facts.assign([kernel_prior, bias_prior, log_evidence, rows, 0.0])
        self.built = True

    def _fact(self, name) -> float:
        with tf.init_scope():  # a number also where a function is traced
            return float(self.facts.numpy()[_FACTS.index(name)])

    @property
    def kernel_prior(self) -> float:
        """The precision of the prior on the kernel."""
        return self._fact("kernel_prior")

    @property
    def bias_prior(self) -> float:
        """The precision of the prior on the bias."""
        return self._fact("bias_prior")

    @property
    def log_evidence(self) -> float:
        """log p(y | x) in nats; NaN after an update of an approximation."""
        return self._fact("log_evidence")

    @property
    def rows(self) -> float:
        """The rows that it was found with, by their weights; 0 if it was not found yet."""
        return self._fact("rows")

    @property
    def is_stale(self) -> bool:
        """Whether the model was trained since."""
        return bool(self._fact("is_stale"))

    def make_stale(self):
        """Says that the model is trained from now on."""
        self.facts.assign([*self.facts.numpy()[:-1], 1.0])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each weight that describes the distribution, by its name."""
        each, size = (self.features, self.units), self.features * self.units
        if self.structure == "full":
            return {"mean": each, "information": (size, size), "covariance": (size, size)}
        if self.structure == "blocks":
            blocks = (self.units, self.features, self.features)
            return {"mean": each, "information": blocks, "covariance": blocks}
        if self.structure == "diagonal":
            return {"mean": each, "information": each, "variances": each}
        return {
            "mean": each,
            "left_information": (self.features, self.features),
            "right_information": (self.units, self.units),
            "left": (self.features, self.features),
            "right": (self.units, self.units),
            "variances": each,
        }

    @property
    def prior(self) -> np.ndarray:
        """The precision of the prior of each row of B, `(d + 1,)`."""
        return np.append(np.full(self.features - 1, self.kernel_prior), self.bias_prior)

    def set(self, **values):
        """Sets weights by name."""
        for name, value in values.items():
            getattr(self, name).assign(np.asarray(value, self.variable_dtype))

    def get(self, name: str) -> np.ndarray:
        """Returns a weight as float64."""
        return getattr(self, name).numpy().astype(float)

    def phi(self, z) -> tf.Tensor:
        """(z, 1), `(..., d + 1)`."""
        z = tf.cast(z, self.variable_dtype)
        return tf.concat([z, tf.ones_like(z[..., :1])], -1)

    def linear_predictor(self, z) -> tf.Tensor:
        """The mean of eta, `(..., u)`."""
        return tf.tensordot(self.phi(z), tf.convert_to_tensor(self.mean), axes=1)

    def predictor_factor(self, z) -> tf.Tensor:
        """A matrix L with L L^T = V, the covariance of eta, `(..., u, u)`."""
        phi = self.phi(z)
        if self.structure == "full":
            shape = (self.features, self.units, self.features, self.units)
            covariance = tf.reshape(tf.convert_to_tensor(self.covariance), shape)
            half = tf.tensordot(phi, covariance, [[-1], [0]])  # (..., u, d + 1, u)
            return root(tf.einsum("...ufv,...f->...uv", half, phi))
        if self.structure == "blocks":
            half = tf.tensordot(phi, tf.convert_to_tensor(self.covariance), [[-1], [1]])  # (..., u, d + 1)
            return tf.linalg.diag(tf.sqrt(tf.maximum(tf.einsum("...uf,...f->...u", half, phi), 0)))
        if self.structure == "kronecker":
            phi = tf.tensordot(phi, tf.convert_to_tensor(self.left), axes=1)
        stddev = tf.sqrt(tf.tensordot(phi**2, tf.convert_to_tensor(self.variances), axes=1))
        return self.right * stddev[..., tf.newaxis, :] if self.structure == "kronecker" else tf.linalg.diag(stddev)

    def nodes(self, z) -> tuple[tf.Tensor, np.ndarray]:
        """Points that stand for the distribution of eta: eta `(..., s, u)` and the weight of each, `(s,)`.

        They are those of Gauss and Hermite for one or two predictors, and otherwise fixed quasi-random draws.
        """
        points, weights = standard_nodes(self.units)
        points = tf.constant(points, self.variable_dtype)
        factor = self.predictor_factor(z)
        return self.linear_predictor(z)[..., tf.newaxis, :] + tf.einsum("...uv,sv->...su", factor, points), weights

    def distribution(self) -> tfd.Distribution:
        """The posterior as a distribution of matrices B, `(d + 1, u)`."""
        shape = (self.features, self.units)
        if self.structure == "blocks":
            root = tf.linalg.cholesky(self.covariance)
            columns = tfd.Independent(tfd.MultivariateNormalTriL(tf.transpose(self.mean.value), root), 1)
            return tfb.Transpose(rightmost_transposed_ndims=2)(columns)
        mean = tf.reshape(tf.convert_to_tensor(self.mean), [-1])
        if self.structure == "full":
            vectors = tfd.MultivariateNormalTriL(mean, tf.linalg.cholesky(self.covariance))
        else:
            stddev = tf.reshape(tf.sqrt(tf.convert_to_tensor(self.variances)), [-1])
            vectors = tfd.MultivariateNormalDiag(tf.zeros_like(stddev), stddev)
            if self.structure == "kronecker":
                sides = [
                    tf.linalg.LinearOperatorFullMatrix(tf.convert_to_tensor(side)) for side in (self.left, self.right)
                ]
                vectors = tfb.ScaleMatvecLinearOperator(tf.linalg.LinearOperatorKronecker(sides))(vectors)
            vectors = tfb.Shift(mean)(vectors)
        return tfb.Reshape(shape, (shape[0] * shape[1],))(vectors)

    def get_config(self):
        config = super().get_config() | {"features": self.features, "units": self.units, "structure": self.structure}
        del config["trainable"]
        return config


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class NormalInverseGamma(Posterior):
    """The exact posterior of linear regression, of the coefficients B and of the variances s^2 of the noise.

        s_j^2 ~ InverseGamma(a, b_j),      B_j | s_j^2 ~ Normal(M_j, s_j^2 C),      C^-1 = phi^T phi + prior

    for each entry j of the response. With it, p(y_j | z) is a Student-t with 2a degrees of freedom, the location
    M_j^T phi and the scale sqrt(b_j / a (1 + phi^T C phi)). With two rows or fewer its variance is infinite.

    Args:
      *args: As for `Posterior`; its priors are relative to the variance of the noise.
      **kwargs: As for `Posterior`.

    References:
      Bishop 2006, "Pattern Recognition and Machine Learning", exercises 3.12 and 3.13.
    """

    def shapes(self):
        matrix = (self.features, self.features)
        of_noise = {"concentration": (), "rates": (self.units,)}
        return {"mean": (self.features, self.units), "information": matrix, "covariance": matrix} | of_noise

    def spread(self, z) -> tf.Tensor:
        """phi^T C phi, `(...)`: the variance of eta in units of the variance of the noise."""
        phi = self.phi(z)
        return tf.reduce_sum(tf.tensordot(phi, tf.convert_to_tensor(self.covariance), axes=1) * phi, -1)

    def predictor_factor(self, z):
        noise = tf.convert_to_tensor(self.rates) / (self.concentration - 1)
        return tf.linalg.diag(tf.sqrt(self.spread(z)[..., tf.newaxis] * noise))

    def distribution(self):
        """The posterior as a distribution of `{"variances": (u,), "coefficients": (d + 1, u)}`."""
        mean, root = tf.transpose(self.mean.value), tf.linalg.cholesky(self.covariance)

        def coefficients(variances):
            scale = tf.sqrt(variances)[..., tf.newaxis, tf.newaxis] * root
            columns = tfd.Independent(tfd.MultivariateNormalTriL(mean, scale), 1)
            return tfb.Transpose(rightmost_transposed_ndims=2)(columns)

        variances = tfd.Independent(tfd.InverseGamma(self.concentration, self.rates), 1)
        return tfd.JointDistributionNamed({"variances": variances, "coefficients": coefficients})


def standard_nodes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Points `(s, size)` and weights `(s,)` that stand for a standard normal of that size.

    They have its mean and its covariance; from `DRAWS` on, too few points for a covariance, its variances.
    """
    if size in _QUADRATURE:
        nodes, weights = np.polynomial.hermite_e.hermegauss(_QUADRATURE[size])
        points = np.stack(np.meshgrid(*[nodes] * size, indexing="ij"), -1).reshape(-1, size)
        products = np.prod(np.stack(np.meshgrid(*[weights] * size, indexing="ij"), -1).reshape(-1, size), -1)
        return points, products / products.sum()
    uniform = scipy.stats.qmc.Sobol(size, seed=0).random(DRAWS)
    points = scipy.stats.norm.ppf(np.clip(uniform, 1e-6, 1 - 1e-6))
    points = (points - points.mean(0)) / points.std(0)
    if size < DRAWS:
        points = np.linalg.solve(np.linalg.cholesky(points.T @ points / DRAWS), points.T).T
    return points, np.full(DRAWS, 1 / DRAWS)


def root(covariance) -> tf.Tensor:
    """The lower triangular root of small covariances, which rounding may have left slightly indefinite."""
    if covariance.shape[-1] == 1:
        return tf.sqrt(tf.maximum(covariance, 0))
    trace = tf.linalg.trace(covariance)[..., tf.newaxis, tf.newaxis]
    jitter = 1e-6 if covariance.dtype == tf.float32 else 1e-12
    identity = tf.eye(covariance.shape[-1], dtype=covariance.dtype)
    return tf.linalg.cholesky(covariance + (jitter * trace + np.finfo(np.float32).tiny) * identity)


def expected_log_prob(head, z, y) -> tf.Tensor:
    """E[log p(y | eta)] over the posterior of a head, `(n,)`, by its nodes.

    Args:
      head: A `Head` with a `Posterior`.
      z: What the head sees, `(n, d)`.
      y: Responses, as `prepare_labels` returns them.
    """
    eta, weights = head.posterior.nodes(z)
    near = np.flatnonzero(weights > _LEAST_WEIGHT)
    log_prob = head.distribution(head.shaped(tf.gather(eta, near, axis=-2))).log_prob(y[:, tf.newaxis])
    return tf.linalg.matvec(log_prob, tf.constant(weights[near], eta.dtype))
