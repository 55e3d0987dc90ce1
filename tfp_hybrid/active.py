"""Which labels to ask for: queries on a pool of unlabelled inputs, and simulations of learning with them."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.heads import Head, decomposition
from tfp_hybrid.heads.posterior import NormalInverseGamma, Posterior
from tfp_hybrid.models import HybridModel, side_inputs
from tfp_hybrid.models.encoding import encode_batches
from tfp_hybrid.uncertainty.scores.base import check_classifier, check_head

__all__ = ["BALD", "Entropy", "Margin", "Query", "Random", "Variance", "simulate"]

_ROWS = 256  # whose covariances are in memory at a time


@dataclasses.dataclass(frozen=True)
class Query:
    """How much the label of an input is wanted; a subclass writes `of`.

    Args:
      density_power: a in `of(x) p(x)^a`: with a > 0, inputs that are informative but typical are asked for. p(x) is in
        nats, so that a is small where x has many entries.

    Attributes:
      uses_posterior: Whether `of` depends on the head's posterior.
    """

    density_power: float = 0.0
    uses_posterior: ClassVar[bool] = True

    def __post_init__(self):
        arguments.check_number(self.density_power, "density_power", 0)

    def check(self, model: HybridModel):
        """Raises ValueError if the query does not apply to the model."""
        check_head(model)

    def of(self, head: Head, z: tf.Tensor) -> tf.Tensor:
        """Returns a number >= 0 for each of the latents z, `(n,)`."""
        raise NotImplementedError(f"{type(self).__name__}.of")

    def choose(self, model: HybridModel, x, count: int, seed: int = 0, batch_size: int | None = None) -> np.ndarray:
        """Returns the indices of the inputs whose labels to ask for, the most wanted first.

        If the head has a full posterior, each input that was chosen counts as labelled when the next one is: its
        information, which for most heads does not depend on the label, is added to the posterior. So a batch has no
        two inputs that tell the same. It costs one pass through the flow. Only the most wanted inputs are looked at
        again, since what is wanted of the others falls: that of `Variance` always does, and that of more than two
        classes nearly always.

        Args:
          model: A `HybridModel`.
          x: The pool, `(n, *input_shape)`.
          count: How many to choose, 1 .. n.
          seed: The seed of the order of inputs that are equally wanted; `Random` needs another one each time.
          batch_size: Rows of a batch; 256 if None.

        Raises:
          ValueError: If the query does not apply to the model, or `count` is larger than the pool.
        """
        self.check(model)
        side_inputs.check_none(model, "choose")
        arguments.check_count(count, "count", least=1)
        encodings = list(encode_batches(model, x, batch_size))
        z = tf.concat([batch.features for batch in encodings], 0)
        if count > len(z):
            raise ValueError(f"count is {count}, but x has {len(z)} rows; wanted at most as many.")
        log_density = (
            np.concatenate([batch.log_prob for batch in encodings]) if self.density_power else np.zeros(len(z))
        )
        tie = np.random.default_rng(seed).uniform(size=len(z))
        head, before = model.head, model.head.posterior
        one_by_one = self.uses_posterior and head.is_integrated and before.structure == "full"
        chosen, free = [], np.ones(len(z), bool)
        try:
            wanted = self._wanted(head, z, log_density)
            while True:
                order = np.lexsort((tie, -wanted))
                order = order[free[order]]
                if not one_by_one or len(chosen) == count - 1:
                    return np.array([*chosen, *order[: count - len(chosen)]])
                chosen.append(int(order[0]))
                free[order[0]] = False
                head.posterior = _with_row(head, z[chosen[-1]][tf.newaxis], head.compiled_information)
                # The most wanted ones are looked at again, until one is ahead of what the others were before.
                for start in range(1, len(order), _ROWS):
                    again = order[start : start + _ROWS]
                    wanted[again] = self._wanted(head, tf.gather(z, again), log_density[again])
                    rest = order[start + _ROWS :]
                    if not len(rest) or wanted[order[1 : start + _ROWS]].max() > wanted[rest[0]]:
                        break
        finally:
            head.posterior = before

    def _wanted(self, head, z, log_density):
        """log(of(x) p(x)^a), `(n,)`."""
        parts = [self.of(head, z[start : start + _ROWS]) for start in range(0, len(z), _ROWS)]
        with np.errstate(divide="ignore"):
            wanted = np.log(np.maximum(np.concatenate(parts).astype(float), 0))
        wanted = wanted + self.density_power * log_density
        return np.where(np.isnan(wanted), -np.inf, wanted)


@dataclasses.dataclass(frozen=True)
class BALD(Query):
    """The epistemic part of the uncertainty: how much the label tells about the head's coefficients, in nats.

    A model without a posterior is refused, since it is zero everywhere then.

    References:
      Houlsby, Huszar, Ghahramani and Lengyel 2011, "Bayesian Active Learning for Classification and Preference
      Learning"; Kirsch, van Amersfoort and Gal 2019, "BatchBALD", for why a batch must not ask twice.
    """

    def check(self, model):
        super().check(model)
        if not model.head.is_integrated:
            raise ValueError(f"{type(self).__name__}: the head has no posterior; call `bayes.fit` first.")

    def of(self, head, z):
        epistemic = decomposition.of_latents([(head, z)]).epistemic
        return tf.reduce_sum(epistemic, list(range(1, epistemic.shape.rank)))


class Variance(BALD):
    """As `BALD`, for regression: the variance of the mean over the posterior."""


@dataclasses.dataclass(frozen=True)
class Entropy(Query):
    """The entropy of p(y|x), for classes."""

    def check(self, model):
        check_classifier(model, "Entropy")

    def of(self, head, z):
        return head(z).entropy()


@dataclasses.dataclass(frozen=True)
class Margin(Query):
    """1 - the difference between the two highest probabilities, for classes.

    References:
      Scheffer, Decomain and Wrobel 2001, "Active Hidden Markov Models for Information Extraction".
    """

    def check(self, model):
        check_classifier(model, "Margin")

    def of(self, head, z):
        probs = head.mean(head(z))
        probs = probs if probs.shape.rank == 2 else tf.stack([1 - probs, probs], -1)
        highest = tf.math.top_k(probs, 2).values
        return 1 - (highest[:, 0] - highest[:, 1])


@dataclasses.dataclass(frozen=True)
class Random(Query):
    """Any input as much as any other: what the other queries have to beat."""

    uses_posterior: ClassVar[bool] = False

    def of(self, head, z):
        return tf.ones(len(z))


def _with_row(head, z, information) -> Posterior:
    """The posterior as if the label of one latent z `(1, d)` were known, with the same mean; without `information`."""
    before = head.posterior
    arguments = {"kernel_prior": before.kernel_prior, "bias_prior": before.bias_prior, "rows": before.rows + 1}
    phi = np.append(z.numpy().astype(float).ravel(), 1.0)
    if isinstance(before, NormalInverseGamma):
        half = before.get("covariance") @ phi
        covariance = before.get("covariance") - np.outer(half, half) / (1 + phi @ half)
        after = NormalInverseGamma(before.features, before.units, dtype=head.variable_dtype, **arguments)
        kept = {name: before.get(name) for name in ("mean", "concentration", "rates")}
        after.set(covariance=covariance, **kept)
        return after
    eta = before.linear_predictor(z)
    y = head.prepare_labels(tf.zeros((1, *head.event_shape)) if head.classifies else head.at_point(z).mean())
    values, vectors = np.linalg.eigh(information(eta, y)[0].numpy().astype(float))
    columns = np.kron(phi[:, np.newaxis], vectors * np.sqrt(np.maximum(values, 0)))  # (P, u)
    half = before.get("covariance") @ columns
    covariance = before.get("covariance") - half @ np.linalg.solve(np.eye(before.units) + columns.T @ half, half.T)
    after = Posterior(before.features, before.units, "full", dtype=head.variable_dtype, **arguments)
    after.set(mean=before.get("mean"), covariance=covariance)
    return after


def simulate(
    make_model: Callable[[np.ndarray, np.ndarray], HybridModel],
    pool: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    queries: Sequence[Query],
    start: int = 10,
    batch: int = 10,
    labels: int = 200,
    seeds: Sequence[int] = (0,),
    verbose: int = 1,
) -> pd.DataFrame:
    """Plays active learning on rows whose labels are known, and returns the learning curves.

    Arrays and DataFrames are taken. Each seed begins with the same random rows for all queries.

    Args:
      make_model: A function that trains a model on rows x and labels y, with a posterior where the query needs one. It
        is called once for each batch of labels, after `keras.utils.set_random_seed(seed)`.
      pool: x and y to choose from.
      test: x and y on which the error is measured.
      queries: The queries to compare.
      start: How many labels are known at the start.
      batch: How many are asked for at a time.
      labels: How many are known at the end.
      seeds: A learning curve for each.
      verbose: Whether to show a progress bar.

    Returns:
      A table with the columns "query", "seed", "labels" and "error": the fraction of wrong classes, or the root mean
      squared error.

    Raises:
      ValueError: If `start`, `batch` or `labels` do not fit the pool.
    """
    for name, count in (("start", start), ("batch", batch), ("labels", labels)):
        arguments.check_count(count, name, least=1)
    if not start <= labels <= len(pool[1]):
        raise ValueError(f"labels is {labels}; wanted from `start` = {start} to the {len(pool[1])} rows of the pool.")
    found = []
    rounds = -(-(labels - start) // batch) + 1
    bar = keras.utils.Progbar(rounds * len(seeds) * len(queries), verbose=verbose, unit_name="model")
    for seed in seeds:
        first = np.random.default_rng(seed).permutation(len(pool[1]))[:start]
        for query in queries:
            known = first
            while True:
                keras.utils.set_random_seed(seed)
                model = make_model(_rows(pool[0], known), _rows(pool[1], known))
                found.append((_name(query), seed, len(known), _error(model, *test)))
                bar.add(1)
                if len(known) >= labels:
                    break
                rest = np.setdiff1d(np.arange(len(pool[1])), known)
                chance = int(np.random.default_rng([seed, len(known)]).integers(2**31))
                asked = query.choose(model, _rows(pool[0], rest), min(batch, labels - len(known)), chance)
                known = np.append(known, rest[asked])
    return pd.DataFrame(found, columns=["query", "seed", "labels", "error"])


def _error(model, x, y):
    # Not by `predict`, which would be traced anew for each posterior.
    mean = model.head.mean(model.predict_distribution(x)[0]).numpy()
    y = np.asarray(model.head.prepare_labels(np.asarray(y)))
    if not model.head.classifies:
        return float(np.sqrt(np.mean((mean - y) ** 2)))
    return float(np.mean((mean.argmax(-1) if model.head.integer_labels else mean > 0.5) != y))


def _name(query):
    name = type(query).__name__
    return f"{name}({query.density_power:g})" if query.density_power else name


def _rows(values, index):
    return values.iloc[index] if hasattr(values, "iloc") else values[index]
