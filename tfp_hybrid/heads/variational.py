"""`Variational`: a head with a posterior of its kernel and bias that `fit` trains."""

import keras

from tfp_hybrid import arguments
from tfp_hybrid.heads.base import Head
from tfp_hybrid.heads.posterior import DRAWS, MOST_COEFFICIENTS
from tfp_hybrid.heads.trained_posterior import TrainedPosterior
from tfp_hybrid.heads.trains_posterior import TrainsPosterior

_STRUCTURES = ("auto", "full", "kronecker")


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Variational(TrainsPosterior):
    """A head whose kernel and bias have a posterior that `fit` trains, together with the flow.

    The posterior is a Normal q(B) = Normal(M, C) of the coefficients B = (kernel, bias), as with `bayes.fit`. For each
    row, training maximizes

        E_q[log p(y | z, B)] - KL(q || p(B)) / N,      p(B) = Normal(0, 1 / precision of the prior)

    instead of log p(y | z) at a point; summed over the N training rows, this is a lower bound of the log evidence. The
    expectation is a sum over the fixed nodes of `Posterior`, so no random numbers are drawn. It is exact for a `Normal`
    head, by quadrature for one or two linear predictors, and over 64 quasi-random nodes for more. KL / N is a
    regularization loss of the model: `loss` contains it, `nll` does not. Except in training, p(y|x) is the average
    over q.

    M is the kernel and bias of the head inside, whose other weights, such as the scale of a `Normal` head, are trained
    as points. C has a factorization with L lower triangular, ones on the diagonal of L, and D diagonal:

        "full"          C = L D L^T
        "kronecker"     C = (L_1 ⊗ L_2) D (L_1 ⊗ L_2)^T,     L_1 `(d + 1, d + 1)`, L_2 `(u, u)`

    For one linear predictor the two are the same. For 64 or more, L_2 is the identity, since the 64 nodes do not
    determine the correlations of as many. C starts at I / N, the posterior after N rows of unit information.

    Args:
      head: The head inside: any `Head` without an uncertainty of its own.
      train_size: N, the number of training rows, or the sum of their weights.
      prior: The precision > 0 of the prior on each entry of the kernel. "evidence" maximizes the bound over it at each
        step: it is d u / E_q[||kernel||^2].
      bias_prior: The precision > 0 of the prior on each entry of the bias.
      structure: "full" or "kronecker"; "auto" is "full" up to 4,000 coefficients of fewer than 64 linear predictors,
        "kronecker" above.
      trainable: Whether training changes the head, as for any Keras layer.
      name: The name of the layer.

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
        super().__init__(head, train_size, trainable=trainable, name=name)
        _check_head(head)
        arguments.check_number(bias_prior, "Variational: `bias_prior`", 0, open=True)
        if not isinstance(prior, str):
            arguments.check_number(prior, "Variational: `prior`", 0, open=True)
        elif prior != "evidence":
            raise ValueError(f"Variational: `prior` is {prior!r}; wanted a precision > 0, or 'evidence'.")
        if structure not in _STRUCTURES:
            raise ValueError(f"Variational: `structure` is {structure!r}; wanted one of {_STRUCTURES}.")
        if structure == "full" and self.units >= DRAWS:
            raise ValueError(
                f"Variational: `structure` is 'full', but the head has {self.units} linear predictors; wanted fewer "
                f"than {DRAWS}, or 'kronecker'."
            )
        self.structure, self.bias_prior = structure, float(bias_prior)
        self.prior = prior if prior == "evidence" else float(prior)

    def build(self, latent_shape):
        super().build(latent_shape)
        structure = self.structure
        if structure == "auto":
            is_small = (latent_shape[-1] + 1) * self.units <= MOST_COEFFICIENTS and self.units < DRAWS
            structure = "full" if is_small else "kronecker"
        self.posterior = TrainedPosterior(
            self.coefficients, structure, self.train_size, self.prior, self.bias_prior, dtype=self.variable_dtype
        )

    def get_config(self) -> dict:
        own = {"prior": self.prior, "bias_prior": self.bias_prior, "structure": self.structure}
        return super().get_config() | own


def _check_head(head):
    if head.side_inputs:
        raise ValueError(
            f"Variational: `head` has the side inputs {list(head.side_inputs)}; wanted none, since the posterior is "
            "one of the coefficients of z alone."
        )
    if head.kernel_regularizer is not None:
        raise ValueError("Variational: `head` has a kernel_regularizer; wanted none, since `prior` takes its place.")
