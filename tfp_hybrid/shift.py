"""Rows from another place than the training rows: how much of it the model has seen, and how to learn for it.

Of two densities, one of each place, the ratio is exact: no classifier has to estimate it.
"""

import dataclasses
import re
import warnings

import keras
import numpy as np
import scipy.stats

from tfp_hybrid import arguments
from tfp_hybrid.models import DensityModel, HybridModel
from tfp_hybrid.uncertainty.scores.base import check_classifier, check_model

__all__ = ["ShiftReport", "Weights", "adapt", "importance_weights", "label_shift", "report"]

_ITERATIONS, _TOLERANCE = 10_000, 1e-9


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights with which the mean over rows of one place estimates the mean over another.

    Attributes:
      values: The weights, `(n,)`; pass them as `sample_weight`.
      clipped: How many of them were clipped.
      effective_sample_size: (sum w)^2 / sum w^2: so many rows of the other place would say as much.
    """

    values: np.ndarray
    clipped: int
    effective_sample_size: float


@dataclasses.dataclass(frozen=True)
class ShiftReport:
    """How far one place is from another.

    Attributes:
      rows: The number of rows of the target that were looked at.
      divergence: The mean of log p_t(x) - log p_s(x) over them in nats, an estimate of KL(p_t || p_s); for rows that
        p_t was trained on, it is too large.
      standard_error: That of `divergence`.
      p_value: That of the Kolmogorov-Smirnov test of log p_t(x) - log p_s(x) between the rows of both places; small if
        they differ.
      effective_sample_size: That of the importance weights of the source's rows.
      source_rows: The number of rows of the source.
    """

    rows: int
    divergence: float
    standard_error: float
    p_value: float
    effective_sample_size: float
    source_rows: int

    def __str__(self):
        found = "a shift" if self.p_value < 0.01 else "no shift that these densities and rows could show"
        return (
            f"{found} (p = {self.p_value:.2g}): {self.divergence:.3g} +- {self.standard_error:.2g} nats a row; "
            f"{self.source_rows:,} rows of the source, weighted, are worth {self.effective_sample_size:,.0f}"
        )


def importance_weights(
    source: DensityModel, target: DensityModel, x, largest: float | None = None, batch_size: int | None = None
) -> Weights:
    """Returns exp(log p_t(x) - log p_s(x)) of rows of the source.

    The mean of `w(x) g(x)` over rows of the source is that of g over the target, if p_s is nowhere zero where p_t is
    not. Large weights make it noisy, so they are clipped (truncated importance sampling).

    Args:
      source: The model whose p(x) is that of the source.
      target: The model whose p(x) is that of the target.
      x: Rows of the source, `(n, *event_shape)`.
      largest: The largest weight; None is sqrt(n) times their mean, after Ionides, `inf` clips nothing.
      batch_size: Rows of a batch; 256 if None.

    Raises:
      ValueError: If a model cannot take x, or if a row has log p(x) = -inf in both places.

    References:
      Shimodaira 2000, "Improving Predictive Inference under Covariate Shift by Weighting the Log-Likelihood Function".
      Ionides 2008, "Truncated Importance Sampling".
    """
    if largest is not None and largest != np.inf:
        arguments.check_number(largest, "largest", 0, open=True)
    log_ratios = _log_ratios(source, target, x, batch_size, "x")
    weights, unit = _weights(log_ratios, largest)
    with np.errstate(over="ignore"):
        values = weights.values * np.exp(unit)
    endless = np.isposinf(log_ratios) if largest is None else np.isinf(values)
    if endless.any() or np.isinf(values).any():
        row = int(np.argmax(endless | np.isinf(values)))
        raise ValueError(
            f"x: row {row} has the weight exp({log_ratios[row]:.4g}), which is infinite; wanted a finite `largest`, or "
            "rows like those that p_s was trained on."
        )
    return dataclasses.replace(weights, values=values)


def _weights(log_ratios, largest=None):
    """`Weights` in a unit in which they neither overflow nor underflow, and the logarithm of this unit."""
    finite = np.isfinite(log_ratios)
    unit = log_ratios[finite].max() if finite.any() else 0.0
    if largest is not None:
        unit = min(unit, np.log(largest))
    with np.errstate(over="ignore"):
        ratios = np.exp(log_ratios - unit)
        if largest is None:
            most = np.sqrt(len(ratios)) * (ratios[finite].mean() if finite.any() else 1.0)
        else:
            most = np.exp(np.log(largest) - unit)
    values = np.minimum(ratios, most)
    with np.errstate(invalid="ignore"):  # of infinite weights
        size = float(values.sum() ** 2 / np.sum(values**2))
    return Weights(values, int(np.sum(ratios > most)), size), unit


def report(
    source: DensityModel, target: DensityModel, x_source, x_target, batch_size: int | None = None
) -> ShiftReport:
    """Reports whether there is a shift between two places, how large it is, and how many rows carry the weights.

    Args:
      source: The model whose p(x) is that of the source.
      target: The model whose p(x) is that of the target.
      x_source: Rows of the source that neither model was trained on.
      x_target: Rows of the target that neither model was trained on.
      batch_size: Rows of a batch; 256 if None.

    Raises:
      ValueError: As `importance_weights`.
    """
    there = _log_ratios(source, target, x_target, batch_size, "x_target")
    if len(there) < 2:
        raise ValueError(f"x_target has {len(there)} rows; wanted at least 2.")
    here = _log_ratios(source, target, x_source, batch_size, "x_source")
    return ShiftReport(
        rows=len(there),
        divergence=float(there.mean()),
        standard_error=float(there.std(ddof=1) / np.sqrt(len(there))),
        p_value=float(scipy.stats.ks_2samp(here, there).pvalue),
        effective_sample_size=_weights(here)[0].effective_sample_size,
        source_rows=len(here),
    )


def label_shift(model: HybridModel, x, prior, batch_size: int | None = None) -> np.ndarray:
    """Returns the class frequencies among rows without labels of another place, `(K,)`, if only they differ there.

    Maximum likelihood by EM, for p_t(x | y) = p_s(x | y):

        q_k  <-  mean_n [ q_k r_k(x_n) / sum_j q_j r_j(x_n) ],     r_k(x) = p_s(y = k | x) / p_s(y = k)

    p_s(y|x) must be calibrated, as by `uncertainty.calibrate` on held-out rows of the source: of a model that is less
    sure than it could be, the estimate goes to a single class. On rows of the source, it should be `prior`.

    Args:
      model: A `HybridModel` that classifies, trained on the source.
      x: Rows of the target, `(n, *event_shape)`.
      prior: p_s(y), the class frequencies of the rows that p(y|x) was trained on, times their weights if there were
        any, `(K,)`.
      batch_size: Rows of a batch; 256 if None.

    Raises:
      ValueError: If the head is no classifier, or if `prior` is not a distribution over its classes.

    References:
      Saerens, Latinne and Decaestecker 2002, "Adjusting the Outputs of a Classifier to New a Priori Probabilities".
      Alexandari, Kundaje and Shrikumar 2020, "Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at
      Label Shift Adaptation".
    """
    check_classifier(model, "label_shift")
    given = prior
    try:
        prior = np.asarray(prior, float)
    except (TypeError, ValueError):
        prior = np.zeros(0)
    count = model.head.num_classes
    if prior.shape != (count,) or not (prior > 0).all() or not np.isclose(prior.sum(), 1, atol=1e-6):
        raise ValueError(f"prior is {given}; wanted {count} positive frequencies that sum to 1.")
    probs = model.predict(x, batch_size, verbose=0).astype(float)
    if probs.ndim == 1:
        probs = np.stack([1 - probs, probs], 1)
    bad = ~np.isfinite(probs).all(axis=1)
    if bad.any():
        raise ValueError(f"x: row {int(bad.argmax())} has no prediction, since its latent overflows; wanted others.")
    ratios, q = probs / prior, prior
    for _ in range(_ITERATIONS):
        weighted = q * ratios
        new = np.mean(weighted / weighted.sum(1, keepdims=True), 0)
        if np.abs(new - q).max() < _TOLERANCE:
            return new
        q = new
    warnings.warn(f"label_shift has not converged after {_ITERATIONS:,} steps of EM.", stacklevel=2)
    return new


def adapt(
    model: HybridModel,
    x,
    epochs: int = 5,
    batch_size: int = 64,
    learning_rate: float = 1e-4,
    verbose: str | int = "auto",
) -> keras.callbacks.History:
    """Trains the flow of a model on rows without labels of another place, so that p(x) is that of the place.

    The head stays as it is, with the mixture of a `latents.ClassMixture`: the flow takes the rows of the new place to
    where those of the old one were. Nothing but p(x) says which class they are, so keep the rate small, and look at a
    few labelled rows afterwards. A posterior of the head is stale afterwards, and so are fitted scores and rejectors.

    Args:
      model: A trained `HybridModel` or `DensityModel`, which is changed; save it first to be able to go back.
      x: Rows of the target, `(n, *event_shape)`.
      epochs: As for `fit`.
      batch_size: The number of rows in a batch.
      learning_rate: That of Adam.
      verbose: As for `fit`.

    Returns:
      The history of log p(x) on the target.

    Raises:
      ValueError: If the model cannot take x.
    """
    check_model(model)
    arguments.check_count(epochs, "epochs", 1)
    arguments.check_number(learning_rate, "learning_rate", 0, open=True)
    with model.distribute_strategy.scope():
        density = DensityModel(model.distribution, model.encoder)
        density.compile(keras.optimizers.Adam(learning_rate))
    if model.encoder is None and model.inputs_spec.columns is None:
        density.feature_names = model.feature_names  # by which the columns of a DataFrame are matched
    of_latent = {id(variable) for variable in model.distribution.distribution.trainable_variables}
    frozen = [one for one in density.trainable_variables if id(one.value) in of_latent]
    try:
        for variable in frozen:
            variable.trainable = False
        history = density.fit(x, batch_size=batch_size, epochs=epochs, verbose=verbose)
    finally:
        for variable in frozen:
            variable.trainable = True
    if model.head is not None and model.head.is_integrated:
        model.head.posterior.make_stale()
    return history


def _log_ratios(source, target, x, batch_size, argument):
    """log p_t(x) - log p_s(x), float64, `(n,)`."""
    found = []
    for model, of_model in ((source, "source"), (target, "target")):
        if not isinstance(model, DensityModel):
            raise ValueError(f"{of_model} is a {type(model).__name__}; wanted a HybridModel or a DensityModel.")
        try:
            found.append(model.log_prob(x, batch_size).astype(float))
        except ValueError as error:
            message = re.sub("^x ", f"{argument} ", str(error))
            raise ValueError(f"{message} (By the model `{of_model}`.)") from None
    here, there = found
    both = np.isneginf(there) & np.isneginf(here)
    if both.any():
        raise ValueError(f"{argument}: row {int(both.argmax())} has log p(x) = -inf in both places; wanted others.")
    return there - here
