"""`Variational`: a head whose kernel and bias have a posterior that `fit` trains."""

import math
import numbers
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.posterior import DRAWS, MOST_COEFFICIENTS, Posterior, root

tfd = tfp.distributions

_STRUCTURES = ("auto", "full", "kronecker")
_LEAST_WEIGHT = 1e-12  # of a node; what is farther out may overflow


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Variational(Head):
    """A head with a posterior of its kernel and bias that is trained inside of `fit`, together with the flow.

    It is a Normal q(B) = Normal(M, C) of the coefficients B = (kernel, bias), as `bayes.fit` finds one. Training
    maximizes a lower bound of log p(y | x), divided by the number N of training rows: the mean over the batch of

        E_q[log p(y | z, B)] - KL(q || p(B)) / N,      p(B) = Normal(0, 1 / precision of the prior)

    in place of log p(y | x) at a point. The expectation is over the nodes of `Posterior`, so that nothing is drawn, and
    is exact for a `Normal` head. M is the kernel and bias of the head inside, whose other weights, such as the scale of
    a `Normal` head, are trained as they are. p(y | x) is the average over q in everything but training. KL / N is among
    the model's regularization losses, so that `loss` contains it, but `nll` does not.

    C is the product of a matrix, a diagonal and its transpose, with matrices L that are lower triangular with ones on
    their diagonal: C = L D L^T of all coefficients ("full"), or C = (L_1 ⊗ L_2) D (L_1 ⊗ L_2)^T, with L_1 of the
    entries of z and L_2 of the linear predictors ("kronecker"). They start at C = 1/N, where N rows lead of which each
    has unit information. (For 64 linear predictors and more, L_2 is the identity.)

    Args:
      head: The head inside; any `Head` without an uncertainty of its own.
      train_size: N, the number of training rows; of weighted rows, the sum of the weights.
      prior: The precision > 0 of the prior on each entry of the kernel, or "evidence": that of the highest bound at
        each step, (d u) / E_q[||kernel||^2].
      bias_prior: The precision > 0 of the prior on each entry of the bias.
      structure: "full" or "kronecker"; "auto" is "full" up to 4,000 coefficients of fewer than 64 linear predictors,
        "kronecker" above.
      trainable: As for a Keras layer.
      name: As for a Keras layer.

    Call arguments:
      z: `(..., d)`. Returns p(y | z), with q integrated out: a `tfd.Distribution` with batch shape `(...)`.

    Raises:
      ValueError: If `head` is not as above, has a posterior or a regularizer of its kernel, if a number is not
        positive and finite, or if `structure` is unknown, or "full" for 64 linear predictors or more.

    Example:

    >>> head = heads.Variational(heads.Bernoulli(), train_size=1000)
    >>> head(np.zeros((3, 2), "float32")).batch_shape
    TensorShape([3])
    >>> head.posterior.structure
    'full'

    References:
      Harrison, Willes and Snoek 2024, "Variational Bayesian Last Layers" (the bound, with a deterministic expectation);
      Bishop 2006, "Pattern Recognition and Machine Learning", section 3.5.2 (the precision of the prior).
    """

    trains_posterior = True

    def __init__(
        self,
        head: Head,
        train_size: float,
        prior: float | str = "evidence",
        bias_prior: float = 0.01,
        structure: str = "auto",
        trainable: bool = True,
        name: str | None = None,
    ):
        _check_head(head)
        for argument, value in (("train_size", train_size), ("bias_prior", bias_prior)):
            if not _is_positive(value):
                raise ValueError(f"Variational: `{argument}` is {value!r}; wanted a finite number > 0.")
        if not _is_positive(prior) and prior != "evidence":
            raise ValueError(f"Variational: `prior` is {prior!r}; wanted a precision > 0, or 'evidence'.")
        if structure not in _STRUCTURES:
            raise ValueError(f"Variational: `structure` is {structure!r}; wanted one of {_STRUCTURES}.")
        super().__init__(head.event_shape, head.predictors, dtype=head.variable_dtype, trainable=trainable, name=name)
        self.units = int(np.prod(self.event_shape)) * self.predictors
        if structure == "full" and self.units >= DRAWS:
            raise ValueError(
                f"Variational: `structure` is 'full', but the head has {self.units} linear predictors; wanted fewer "
                f"than {DRAWS}, or 'kronecker'."
            )
        self.head, self.structure = head, structure
        self.train_size, self.bias_prior = float(train_size), float(bias_prior)
        self.prior = prior if prior == "evidence" else float(prior)
        self.integer_labels, self.classifies = head.integer_labels, head.classifies

    def __setattr__(self, name, value):
        if name == "posterior" and value is None and self.built:
            raise ValueError(
                "Variational: `posterior` is None; wanted a `Posterior`. The head inside, `head`, has none."
            )
        super().__setattr__(name, value)

    def build(self, latent_shape):
        if not self.head.built:
            self.head.build(latent_shape)
        structure = self.structure
        if structure == "auto":
            is_small = (latent_shape[-1] + 1) * self.units <= MOST_COEFFICIENTS and self.units < DRAWS
            structure = "full" if is_small else "kronecker"
        self.posterior = TrainedPosterior(
            self.coefficients, structure, self.train_size, self.prior, self.bias_prior, dtype=self.variable_dtype
        )

    def coefficients(self) -> tf.Tensor:
        """M, `(d + 1, u)`: the kernel and the bias of the head inside."""
        return tf.concat([self.kernel, self.bias[tf.newaxis]], 0)

    def training_log_prob(self, z, y) -> tf.Tensor:
        """Returns E_q[log p(y | z, B)], `(n,)`."""
        eta, weights = self.posterior.nodes(z)
        near = np.flatnonzero(weights > _LEAST_WEIGHT)
        log_prob = self.distribution(self.shaped(tf.gather(eta, near, axis=-2))).log_prob(y[:, tf.newaxis])
        return tf.linalg.matvec(log_prob, tf.constant(weights[near], eta.dtype))

    def unwrapped(self) -> Head:
        return self.head

    @property
    def kernel(self) -> keras.Variable:
        """The kernel of the head inside: the mean over q."""
        return self.head.kernel

    @property
    def bias(self) -> keras.Variable:
        """The bias of the head inside: the mean over q."""
        return self.head.bias

    def integrated(self, z, posterior: Posterior) -> tfd.Distribution:
        return self.head.integrated(z, posterior)

    def linear_predictor(self, z) -> tf.Tensor:
        return self.head.linear_predictor(z)

    def distribution(self, eta) -> tfd.Distribution:
        return self.head.distribution(eta)

    def information(self, eta, y) -> tf.Tensor:
        return self.head.information(eta, y)

    def mean(self, distribution: tfd.Distribution) -> tf.Tensor:
        return self.head.mean(distribution)

    def metric(self) -> keras.metrics.Metric:
        return self.head.metric()

    def prepare_labels(self, y) -> tf.Tensor:
        return self.head.prepare_labels(y)

    def check_labels(self, y: np.ndarray):
        self.head.check_labels(y)

    def share(self, variables: list[keras.Variable]):
        self.head.share(variables)

    def adapt(self, y: np.ndarray):
        self.head.adapt(y)

    def is_adapted(self) -> bool:
        return self.head.is_adapted()

    def get_config(self) -> dict:
        config = {name: value for name, value in super().get_config().items() if name in ("name", "trainable")}
        return config | {
            "head": keras.saving.serialize_keras_object(self.head),
            "train_size": self.train_size,
            "prior": self.prior,
            "bias_prior": self.bias_prior,
            "structure": self.structure,
        }

    @classmethod
    def from_config(cls, config: dict):
        return cls(**config | {"head": keras.saving.deserialize_keras_object(config["head"])})


class TrainedPosterior(Posterior):
    """q(B) = Normal(M, C) with trained weights, of which C is positive definite whatever their values.

    Args:
      coefficients: A function that returns M, `(d + 1, u)`.
      structure: "full" or "kronecker".
      train_size: N; the variances in D are in units of 1/N.
      prior: The precision of the prior on the kernel, or "evidence".
      bias_prior: The precision of the prior on the bias.
      **kwargs: Passed to `keras.layers.Layer`.
    """

    def __init__(
        self,
        coefficients: Callable[[], tf.Tensor],
        structure: str,
        train_size: float,
        prior: float | str,
        bias_prior: float,
        **kwargs,
    ):
        facts = {"kernel_prior": np.nan if prior == "evidence" else prior, "bias_prior": bias_prior}
        super().__init__(*coefficients().shape, structure, rows=train_size, trainable=True, **facts, **kwargs)
        self.coefficients, self.train_size, self.of_kernel, self.of_bias = coefficients, train_size, prior, bias_prior
        self.log_stddev.regularizer = lambda _: self.divergence() / train_size

    def shapes(self):
        sizes = {"log_stddev": (self.features, self.units)}
        if self.structure == "full":
            return sizes | {"below": _below(self.features * self.units)}
        sizes |= {"left_below": _below(self.features)}
        return sizes | ({"right_below": _below(self.units)} if 1 < self.units < DRAWS else {})

    @property
    def mean(self) -> tf.Tensor:
        """M, `(d + 1, u)`."""
        return self.coefficients()

    @property
    def variances(self) -> tf.Tensor:
        """D, `(d + 1, u)`."""
        return tf.exp(2 * self.log_stddev) / self.train_size

    @property
    def left(self) -> tf.Tensor:
        """L_1, `(d + 1, d + 1)`."""
        return _unit_lower(self.left_below, self.features)

    @property
    def right(self) -> tf.Tensor:
        """L_2, `(u, u)`."""
        has_weight = 1 < self.units < DRAWS
        return _unit_lower(self.right_below, self.units) if has_weight else tf.eye(self.units, dtype=self.dtype)

    @property
    def factor(self) -> tf.Tensor:
        """L D^(1/2), a root of the covariance of all coefficients; of a "full" structure."""
        stddev = tf.sqrt(tf.reshape(self.variances, [-1]))
        return _unit_lower(self.below, stddev.shape[0]) * stddev

    @property
    def covariance(self) -> tf.Tensor:
        """C, of a "full" structure."""
        return tf.matmul(self.factor, self.factor, transpose_b=True)

    @property
    def kernel_prior(self) -> float:
        return float(self.precisions()[0, 0])

    def make_stale(self):
        """Does nothing, since training trains it."""

    def second_moments(self) -> tf.Tensor:
        """E_q[B^2] of each coefficient, `(d + 1, u)`."""
        if self.structure == "full":
            variances = tf.reshape(tf.reduce_sum(self.factor**2, 1), self.log_stddev.shape)
        else:
            variances = tf.matmul(self.left**2, tf.matmul(self.variances, self.right**2, transpose_b=True))
        return self.mean**2 + variances

    def precisions(self) -> tf.Tensor:
        """The precision of the prior of each row of B, `(d + 1, 1)`."""
        if self.of_kernel == "evidence":
            of_kernel = 1 / tf.reduce_mean(self.second_moments()[:-1])
        else:
            of_kernel = tf.constant(self.of_kernel, self.dtype)
        return tf.concat([tf.fill((self.features - 1, 1), of_kernel), tf.constant([[self.of_bias]], self.dtype)], 0)

    def divergence(self) -> tf.Tensor:
        """KL(q || prior) in nats."""
        precisions = self.precisions()
        of_prior = precisions * self.second_moments() - tf.math.log(precisions)
        # det L = 1, so that C has the determinant of D.
        return tf.reduce_sum(0.5 * (of_prior - 1 + math.log(self.train_size)) - self.log_stddev)

    def predictor_factor(self, z):
        if self.structure != "full":
            return super().predictor_factor(z)
        factor = tf.reshape(self.factor, (self.features, self.units, -1))
        half = tf.tensordot(self.phi(z), factor, axes=1)  # (..., u, (d + 1) u)
        return root(tf.matmul(half, half, transpose_b=True))


def _below(size):
    """The shape of the entries below the diagonal of a square matrix."""
    return (size * (size - 1) // 2,)


def _unit_lower(entries, size):
    """The matrix with ones on its diagonal and these entries below it."""
    below = tfp.math.fill_triangular(tf.convert_to_tensor(entries))
    return tf.pad(below, [[1, 0], [0, 1]]) + tf.eye(size, dtype=below.dtype)


def _is_positive(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < value < math.inf


def _check_head(head):
    if not isinstance(head, Head) or isinstance(head, Variational):
        raise ValueError(f"Variational: `head` is {head!r}; wanted another head of `tfp_hybrid.heads`.")
    if getattr(head, "weight_stddev", 0):
        raise ValueError(
            f"Variational: `head` has weight_stddev = {head.weight_stddev}, an uncertainty of its own; wanted 0."
        )
    if head.posterior is not None:
        raise ValueError("Variational: `head` has a posterior; wanted none, since one is trained.")
    if head.kernel_regularizer is not None:
        raise ValueError("Variational: `head` has a kernel_regularizer; wanted none, since `prior` takes its place.")
