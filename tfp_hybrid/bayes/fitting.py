"""`fit` and `update`: the posterior of a model's head, from all rows or from further ones."""

import functools
import numbers

import numpy as np
import tensorflow as tf

from tfp_hybrid import heads
from tfp_hybrid.bayes import exact, laplace
from tfp_hybrid.bayes.likelihood import Likelihood
from tfp_hybrid.bayes.rows import Rows, check_model, encoded
from tfp_hybrid.heads.posterior import MOST_COEFFICIENTS, STRUCTURES, NormalInverseGamma, Posterior
from tfp_hybrid.models import HybridModel

_BY_VALIDATION = np.logspace(-4, 6, 21)  # precisions to choose from
_WORDS = ("evidence", "validation", "flat")
_CENTERS = ("mode", "weights")


def fit(
    model: HybridModel,
    x,
    y=None,
    sample_weight=None,
    prior: float | str = "evidence",
    bias_prior: float = 0.01,
    structure: str = "auto",
    center: str = "mode",
    validation_data: tuple | None = None,
    batch_size: int | None = None,
) -> Posterior:
    """Gives the head of a trained model a posterior of its kernel and bias; p(y|x) is the average over it from then on.

    The flow stays as it is: it encodes each row once. For a `Normal` head the posterior is exact, that of linear
    regression with noise of unknown variance. For all others it is Laplace's approximation,

        p(B | data) ~ Normal(M, C),     C^-1 = sum_n I_n + prior,     I_n: the information of row n on its predictors

    at the mode M, to which Newton's steps lead from the trained weights, or at the trained weights themselves.
    `model.head.posterior = None` takes it away.

    Args:
      model: A trained `HybridModel`.
      x: The rows that it was trained on, `(n, *input_shape)`; or a data set of batches `(x, y)`, read once.
      y: Their responses.
      sample_weight: The weight of each row, `(n,)`, or None; 2 is the same as a row that stands twice.
      prior: The precision > 0 of the prior on each entry of the kernel (for a `Normal` head, relative to the precision
        of the noise); "evidence" for that of the highest evidence; "validation" for that of the lowest NLL of
        `validation_data`; "flat" for none, on the kernel and on the bias.
      bias_prior: The precision >= 0 of the prior on each entry of the bias; 0 is flat. A `Categorical` head needs a
        prior, since all of its logits may rise together.
      structure: "full", "kronecker", "blocks" or "diagonal". "auto" is "full" up to 4,000 coefficients, and above them
        "blocks" for a head whose linear predictors are independent of one another, "kronecker" for others.
      center: "mode", or "weights" for M = the trained kernel and bias. The mode fits the rows best, given their
        latents; where early stopping, dropout or augmentation made the weights what they are, it undoes that.
      validation_data: `(x, y)` for `prior="validation"`.
      batch_size: Rows of a batch of an array; 256 if None.

    Returns:
      The posterior, which is `model.head.posterior`.

    Raises:
      ValueError: For arguments that are not as above, a `heads.Variational` head, rows that the model cannot be
        trained on, or rows that do not determine the coefficients under a flat prior.

    References:
      Nalisnick et al. 2019, appendix B.2; MacKay 1992, "A Practical Bayesian Framework for Backpropagation Networks".
    """
    check_options(model, prior, bias_prior, structure, center, validation_data)
    _check_untrained(model)
    head = model.head
    if isinstance(head, heads.Categorical) and (bias_prior == 0 or prior == "flat"):
        raise ValueError(
            "The prior is flat, but the logits of a Categorical head may all rise together, so that no rows determine "
            "its bias; wanted bias_prior > 0 and a prior other than 'flat'."
        )
    rows = encoded(model, x, y, sample_weight, batch_size)
    if prior == "flat":
        prior, bias_prior = 0.0, 0.0
    if isinstance(head, heads.Normal):
        find = _exact(head, rows, bias_prior)
    else:
        find = _laplace(head, rows, bias_prior, structure, center)
    if prior == "validation":
        held_out = encoded(model, *validation_data, *[None] * (3 - len(validation_data)), batch_size)
        found = min(map(find, _BY_VALIDATION), key=lambda one: _nll(head, one, held_out))
    else:
        found = find(prior)
    head.posterior = found
    return found


def update(model: HybridModel, x, y=None, sample_weight=None, batch_size: int | None = None) -> Posterior:
    """Adds further rows to the posterior of the head, without a look at the former rows.

    For a `Normal` head this is exact: `fit` and `update` give what `fit` with all rows gives, under the same prior. For
    others it is one step of Newton's from the former mode, with the information of the new rows there.

    Args:
      model: A model whose head has a posterior.
      x: The new rows, as for `fit`.
      y: Their responses.
      sample_weight: The weight of each row, or None.
      batch_size: Rows of a batch of an array; 256 if None.

    Returns:
      The new posterior, which is `model.head.posterior`.

    Raises:
      ValueError: If there is no posterior, if it is stale or that of a `heads.Variational` head, or for rows that the
        model cannot be trained on.
    """
    check_model(model)
    _check_untrained(model)
    head, before = model.head, model.head.posterior
    if before is None:
        raise ValueError("update: the head has no posterior; call `bayes.fit` first.")
    if before.is_stale:
        raise ValueError("update: the model was trained after `bayes.fit`; call `bayes.fit` again, with all rows.")
    rows = encoded(model, x, y, sample_weight, batch_size)
    arguments = {"kernel_prior": before.kernel_prior, "bias_prior": before.bias_prior, "rows": before.rows + rows.total}
    if isinstance(before, NormalInverseGamma):
        head.posterior = _of_sums(head, _sums_of(head, before) + _sums(head, rows), before.prior, arguments)
        return head.posterior
    likelihood, mean, structure = Likelihood(head, rows), before.get("mean"), before.structure
    information = likelihood.information(mean, structure)
    if structure == "kronecker":
        share = rows.total / arguments["rows"]
        right = (1 - share) * before.get("right_information") + share * information[1]
        information = (before.get("left_information") + information[0], right)
    else:
        information = (before.get("information") + information[0],)
    curvature = laplace.Curvature(structure, information, before.prior, before.units)
    inverse = curvature.inverse()
    mean = mean + curvature.solve(inverse, likelihood.value_and_gradient(mean)[1])
    posterior = Posterior(before.features, before.units, structure, dtype=head.variable_dtype, **arguments)
    posterior.set(mean=mean, **inverse)
    head.posterior = posterior
    return posterior


def _laplace(head, rows, bias_prior, structure, center):
    """Returns a function of the kernel's prior (a precision, or "evidence") that returns the posterior."""
    likelihood = Likelihood(head, rows)
    start = np.concatenate([head.kernel.numpy(), head.bias.numpy()[np.newaxis]]).astype(float)
    if structure == "auto":
        large = "blocks" if head.has_independent_predictors else "kronecker"
        structure = "full" if start.size <= MOST_COEFFICIENTS else large
    if center == "weights":
        mode = laplace.at_weights(likelihood, start, structure)
    else:
        mode = functools.partial(laplace.mode, likelihood, structure)

    nearest = start

    def find(prior):
        nonlocal nearest  # where the search for the next prior's mode begins
        if prior == "evidence":
            found = laplace.with_evidence(mode, nearest, bias_prior)
        else:
            found = mode(np.append(np.full(len(start) - 1, float(prior)), bias_prior), nearest)
        nearest = found.coefficients
        posterior = Posterior(
            *start.shape,
            structure,
            kernel_prior=found.curvature.prior[0],
            bias_prior=bias_prior,
            log_evidence=found.log_evidence,
            rows=rows.total,
            dtype=head.variable_dtype,
        )
        posterior.set(mean=found.coefficients, **found.inverse)
        return posterior

    return find


def _exact(head, rows, bias_prior):
    """As `_laplace`, for a Normal head."""
    sums = _sums(head, rows)

    def find(prior):
        if prior == "evidence":
            prior = sums.best_precision(bias_prior)
        arguments = {"kernel_prior": float(prior), "bias_prior": bias_prior, "rows": rows.total}
        precisions = np.append(np.full(len(sums.information) - 1, float(prior)), bias_prior)
        return _of_sums(head, sums, precisions, arguments)

    return find


def _of_sums(head, sums, prior, arguments):
    """The posterior of a Normal head from the sums of its rows."""
    found = sums.posterior(prior)
    # Predictions are widened by the head's factor; the rates are those of the noise as it is.
    found["rates"] = found["rates"] / head.widening.numpy().astype(float) ** 2
    log_evidence = found.pop("log_evidence") - sums.rows * np.sum(np.log(head.response_stddev.numpy().astype(float)))
    features, units = found["mean"].shape
    posterior = NormalInverseGamma(features, units, log_evidence=log_evidence, dtype=head.variable_dtype, **arguments)
    posterior.set(**found)
    return posterior


def _sums(head, rows: Rows):
    mean, stddev = (value.numpy().astype(float) for value in (head.response_mean, head.response_stddev))
    y = (rows.y.astype(float) - mean) / stddev
    return exact.Sums.of(rows.phi, y.reshape(len(y), -1), rows.weights)


def _sums_of(head, posterior: NormalInverseGamma):
    """The sums of the rows that a posterior was found with."""
    mean, information = posterior.get("mean"), posterior.get("information")
    products = (information + np.diag(posterior.prior)) @ mean
    rates = posterior.get("rates") * head.widening.numpy().astype(float) ** 2
    squares = 2 * (rates - exact.RATE) + np.sum(mean * products, 0)
    return exact.Sums(posterior.rows, information, products, squares)


def _nll(head, posterior, rows: Rows) -> float:
    """The mean NLL of rows under a posterior; the head keeps its own."""
    before = head.posterior
    try:
        head.posterior = posterior
        chunks = rows.chunks(64 * posterior.units**2)
        parts = [weights @ -head(tf.constant(z)).log_prob(tf.constant(y)).numpy() for z, y, weights in chunks]
    finally:
        head.posterior = before
    return float(np.sum(parts)) / rows.total


def _check_untrained(model):
    if model.head.trains_posterior:
        raise ValueError(
            f"The head is {type(model.head).__name__}, whose posterior `fit` of the model trains; wanted another head."
        )


def check_options(model, prior, bias_prior, structure, center, validation_data):
    """Raises ValueError for a model or options that `fit` does not take."""
    check_model(model)
    is_number = isinstance(prior, numbers.Real) and not isinstance(prior, bool)
    if not (is_number and 0 < prior < np.inf) and not (isinstance(prior, str) and prior in _WORDS):
        raise ValueError(f"prior is {prior!r}; wanted a precision > 0, or one of {_WORDS}.")
    if not (isinstance(bias_prior, numbers.Real) and 0 <= bias_prior < np.inf):
        raise ValueError(f"bias_prior is {bias_prior!r}; wanted a precision >= 0.")
    if structure != "auto" and structure not in STRUCTURES:
        raise ValueError(f"structure is {structure!r}; wanted 'auto' or one of {STRUCTURES}.")
    if structure == "blocks" and not model.head.has_independent_predictors:
        raise ValueError(
            f"structure is 'blocks', but the linear predictors of a {type(model.head).__name__} head depend on one "
            "another; wanted 'auto' or another structure."
        )
    if isinstance(model.head, heads.Normal) and structure not in ("auto", "full"):
        raise ValueError(f"structure is {structure!r}; wanted 'auto' for a Normal head, whose posterior is exact.")
    if center not in _CENTERS:
        raise ValueError(f"center is {center!r}; wanted one of {_CENTERS}.")
    if isinstance(model.head, heads.Normal) and center != "mode":
        raise ValueError(f"center is {center!r}; wanted 'mode' for a Normal head, whose posterior is exact.")
    if (prior == "validation") != (validation_data is not None):
        missing = "missing" if validation_data is None else "given"
        raise ValueError(f"validation_data is {missing} and prior is {prior!r}; wanted both, or another prior.")
    if validation_data is not None and not (isinstance(validation_data, tuple) and len(validation_data) in (2, 3)):
        raise ValueError(
            f"validation_data is a {type(validation_data).__name__}; wanted a tuple (x, y) or (x, y, sample_weight)."
        )
