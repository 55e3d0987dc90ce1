"""`DriftDetector`: compares batches of inputs with reference inputs, in all that a model sees of them."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd

from tfp_hybrid import arguments
from tfp_hybrid.fingerprint import fingerprint
from tfp_hybrid.models import DensityModel
from tfp_hybrid.tables import Category, frames
from tfp_hybrid.uncertainty.drift.classifier import classifier_test
from tfp_hybrid.uncertainty.drift.columns import column_moments, column_table
from tfp_hybrid.uncertainty.drift.latents import Covariance, Kernel, Mean
from tfp_hybrid.uncertainty.drift.marginals import Ranks, Shares, are_classes
from tfp_hybrid.uncertainty.drift.null import Null
from tfp_hybrid.uncertainty.drift.observed import Observed, observe
from tfp_hybrid.uncertainty.drift.report import DriftReport
from tfp_hybrid.uncertainty.scores import NegativeLogProb, Score
from tfp_hybrid.uncertainty.scores.base import check_model

_BATCH_SIZE = 512
_LEAST_REFERENCE, _LEAST_NEW, _LEAST_FOR_CLASSIFIER = 100, 2, 20
_MOST_DRAWN = 1000  # rows of a batch of the bootstrap
_GATHERED = 20_000  # rows of all batches that are in memory at a time
_CLASSIFIED, _PER_NEW = 20_000, 4  # reference rows for the classifier: in all, and for each new row


class DriftDetector:
    """Tests whether batches of inputs come from the population of reference inputs.

    It compares

    * z: its mean, its covariance, and all of its distribution by a kernel (MMD);
    * each score, and the prediction of the response: by KS, and predicted classes by chi-square;
    * each column of x, if x is a vector: by KS, and categories and columns of few whole values by chi-square, too. A
      hole counts as a value of its own.

    All tests are calibrated together, for the size of the batch, by batches that are drawn from the reference. With
    p_i the p-value of a test whose group (z, scores, response, columns) has g_i tests, the statistic is min_i g_i p_i;
    its p-value is its rank among those of the drawn batches, so that the dependence of the tests costs no power. A
    batch that is drawn from N reference rows, with replacement, differs from them with variance 1/m, and a fresh one
    with 1/m + 1/N: distances are scaled by sqrt(1 + m/N).

    Args:
      model: A trained `HybridModel` or `DensityModel`.
      scores: A list of fitted `Score` layers; -log p(x) by default.
      draws: The number of batches that are drawn from the reference.
      seed: The random seed of the draws, projections and classifier.

    Raises:
      ValueError: If `scores` holds something that is not a `Score`, not fitted or does not apply to `model`, or two
        scores of the same title; or if `draws` < 200.

    Example:

    >>> density = DensityModel(flow_distribution(bijectors.RealNVP((2,))))
    >>> x = np.random.default_rng(0).normal(size=(2000, 2)).astype("float32")
    >>> detector = DriftDetector(density).fit(x[:1000])
    >>> detector.test(x[1000:] * [1, 2]).drifted()
    True

    References:
      Westfall and Young 1993, "Resampling-Based Multiple Testing", section 2.3, for the smallest p-value.
      Rabanser, Günnemann and Lipton 2019, "Failing Loudly: An Empirical Study of Methods for Detecting Dataset Shift".
    """

    def __init__(self, model: DensityModel, scores: Sequence[Score] | None = None, *, draws: int = 2000, seed: int = 0):
        check_model(model)
        arguments.check_count(draws, "draws", 200)
        self.model, self.draws, self.seed = model, draws, seed
        self.scores = [NegativeLogProb()] if scores is None else list(scores)
        for score in self.scores:
            if not isinstance(score, Score):
                raise ValueError(f"scores holds {score!r}; wanted Scores, such as NegativeLogProb().")
            score.check_fitted(model)
            score.check_applies(model)
        titles = [score.title for score in self.scores]
        if len(set(titles)) < len(titles):
            raise ValueError(f"scores has the titles {titles}; wanted no title twice.")
        self._reference = None

    def __repr__(self):
        state = "not fitted" if self._reference is None else f"{len(self._reference):,} reference rows"
        return f"DriftDetector({self.model!r}, {self.scores!r}, {state})"

    def fit(self, x_reference, batch_size: int = _BATCH_SIZE) -> "DriftDetector":
        """Sets the reference.

        Args:
          x_reference: Inputs of the population without drift that were not used in training, in no order: an array
            `(n, *event_shape)`, a DataFrame, or a `tf.data.Dataset` of batches. The false-alarm rate of one reference
            is off by chance, and the less the more rows it has; ten times as many as a batch suffice.
          batch_size: The number of rows of an array that are encoded at a time.

        Returns:
          The detector itself.

        Raises:
          ValueError: If x_reference has fewer than 100 rows, or the model cannot take it.
        """
        self._names = frames.column_names(x_reference) if frames.is_frame(x_reference) else None
        self._reference = None
        reference = observe(self.model, self.scores, x_reference, batch_size, self._names)
        if len(reference) < _LEAST_REFERENCE:
            raise ValueError(f"x_reference has {len(reference)} rows; wanted at least {_LEAST_REFERENCE}.")
        self._categories = _categories(self.model)
        self._comparisons = list(_comparisons(reference, self._categories, self.seed))
        groups = [comparison.group for comparison in self._comparisons]
        self._group_sizes = np.array([groups.count(group) for group in groups], float)
        self._columns = column_moments(reference)
        self._reference, self._fitted_to, self._calibrations = reference, fingerprint(self.model), {}
        return self

    def test(self, x_new, *, classifier: bool = False, batch_size: int = _BATCH_SIZE) -> DriftReport:
        """Tests a batch of inputs.

        The first test of a batch of its size takes a second or more, for the calibration; later ones take milliseconds.

        Args:
          x_new: The inputs to test, as `x_reference` of `fit`; all of them are one batch.
          classifier: Whether to train gradient boosting to distinguish x and z of the batch from those of the
            reference, too, which takes seconds and also sees what the other tests do not. Its p-value and that of the
            others are corrected by a factor of two.
          batch_size: The number of rows of an array that are encoded at a time.

        Returns:
          A `DriftReport`.

        Raises:
          ValueError: If `fit` was not called, or the model was trained since; if x_new has fewer than 2 rows (20 for
            the classifier), or the model cannot take it.
        """
        if self._reference is None:
            raise ValueError("DriftDetector is not fitted; call `fit(x_reference)` with held-out inputs first.")
        if fingerprint(self.model) != self._fitted_to:
            raise ValueError("The model was trained since `fit`; call `fit(x_reference)` again.")
        new = observe(self.model, self.scores, x_new, batch_size, self._names)
        least = _LEAST_FOR_CLASSIFIER if classifier else _LEAST_NEW
        if len(new) < least:
            raise ValueError(f"x_new has {len(new)} rows; wanted at least {least}.")
        calibration = self._calibrated(len(new))
        rows = [comparison.rows_of(new) for comparison in self._comparisons]
        distances = np.array(
            [c.distance.distances(row[np.newaxis])[0] for c, row in zip(self._comparisons, rows, strict=True)], float
        )
        p_values, corrected = calibration.p_values(distances)
        table = [
            (c.group, c.of, c.distance.name, distance, p_value, c.distance.effect(row, distance, chance), adjusted)
            for c, row, distance, p_value, chance, adjusted in zip(
                self._comparisons, rows, distances, p_values, calibration.by_chance, corrected, strict=True
            )
        ]
        if classifier:
            auc, p_value = self._classify(new)
            table = [(*row[:-1], min(1.0, 2 * row[-1])) for row in table]
            table.append(("classifier", "x and z", "AUC", auc, p_value, 2 * auc - 1, min(1.0, 2 * p_value)))
        titles = ["group", "of", "test", "statistic", "p_value", "effect_size", "corrected_p_value"]
        tests = pd.DataFrame(table, columns=titles)
        p_value = float(tests["corrected_p_value"].min())
        columns = column_table(self._columns, new, tests, self._categories)
        return DriftReport(len(new), len(self._reference), p_value, tests, columns)

    def _calibrated(self, count: int) -> "_Calibration":
        """Returns the calibration for batches of `count` rows, which is kept."""
        if count not in self._calibrations:
            rng = np.random.default_rng(self.seed)
            # Distances go as 1 / sqrt(m), so that larger batches need no more rows than 1,000.
            drawn = min(count, _MOST_DRAWN)
            parts = []
            for start in range(0, self.draws, max(1, _GATHERED // drawn)):
                batches = min(max(1, _GATHERED // drawn), self.draws - start)
                index = rng.integers(0, len(self._reference), (batches, drawn))
                parts.append([c.distance.distances(c.rows[index]) for c in self._comparisons])
            scale = np.sqrt(drawn / count * (1 + count / len(self._reference)))
            distances = scale * np.concatenate(parts, axis=1)
            self._calibrations[count] = _Calibration(distances, self._group_sizes)
        return self._calibrations[count]

    def _classify(self, new):
        rng = np.random.default_rng(self.seed)
        count = min(len(self._reference), _CLASSIFIED, max(_LEAST_REFERENCE, _PER_NEW * len(new)))
        chosen = rng.choice(len(self._reference), count, replace=False)
        kept = rng.permutation(len(new))[:_CLASSIFIED]
        reference, new = (np.c_[rows.x, rows.z] for rows in (self._reference, new))
        return classifier_test(reference[chosen], new[kept], seed=self.seed)


class _Distance(Protocol):
    """A distance between a batch and a reference, which is given to the constructor."""

    name: str

    def rows(self, values: np.ndarray) -> np.ndarray: ...

    def distances(self, rows: np.ndarray) -> np.ndarray: ...

    def effect(self, rows: np.ndarray, distance: float, by_chance: float) -> float: ...


@dataclasses.dataclass(frozen=True, eq=False)
class _Comparison:
    """One test: what is compared, by which distance, and the rows of the reference."""

    group: str
    of: str
    distance: _Distance
    rows: np.ndarray

    def rows_of(self, observed: Observed) -> np.ndarray:
        """Returns what is compared of a batch, as the distance takes it."""
        return self.distance.rows(_values(observed, self.group, self.of))


def _values(observed, group, of):
    if group == "z":
        return observed.z
    key = group, of
    return observed.classes[key] if key in observed.classes else observed.numbers[key]


def _categories(model):
    """The names of the columns that the model knows to be categories."""
    columns = model.inputs_spec.columns
    return () if columns is None else tuple(one.name for one in columns.columns if isinstance(one.kind, Category))


def _comparisons(reference: Observed, categories: Sequence[str], seed: int):
    for distance in (Mean(reference.z), Covariance(reference.z, seed), Kernel(reference.z, seed)):
        yield _Comparison("z", "z", distance, distance.rows(reference.z))
    for (group, of), values in reference.numbers.items():
        yield _Comparison(group, of, distance := Ranks(values), distance.rows(values))
        if group == "columns" and (of in categories or are_classes(values)):
            yield _Comparison(group, of, distance := Shares(values), distance.rows(values))
    for (group, of), values in reference.classes.items():
        yield _Comparison(group, of, distance := Shares(values), distance.rows(values))


class _Calibration:
    """The p-values of all tests together, from the distances of drawn batches, `(tests, draws)`."""

    def __init__(self, distances, group_sizes):
        self._group_sizes = group_sizes
        # Squares have the exponential tail that `Null` assumes.
        self._nulls = [Null(values**2) for values in distances]
        self.by_chance = np.sqrt((distances**2).mean(1))
        smallest = self._weighted(distances).min(0)
        self._smallest = Null(-np.log(smallest))

    def p_values(self, distances):
        """Returns the p-value of each test alone, and corrected for the number of tests, `(tests,)` each."""
        alone = self._alone(distances[:, np.newaxis])[:, 0]
        return alone, self._smallest.p_values(-np.log(self._group_sizes * alone))

    def _alone(self, distances):
        return np.stack([null.p_values(values**2) for null, values in zip(self._nulls, distances, strict=True)])

    def _weighted(self, distances):
        return self._group_sizes[:, np.newaxis] * self._alone(distances)
