"""`HybridClassifier` and `HybridRegressor`."""

import contextlib
import warnings

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets

from tfp_hybrid import arguments, bayes, heads
from tfp_hybrid.estimators import side_columns
from tfp_hybrid.estimators.base import TableEstimator
from tfp_hybrid.heads.quantiles import quantile
from tfp_hybrid.models import HybridModel, side_inputs
from tfp_hybrid.uncertainty import calibrate
from tfp_hybrid.uncertainty.hole_units import log_widths

tfd = tfp.distributions

_PRIOR = 0.1  # the precision of fixed effects, in which logits need one and few rows are determined


class _Supervised(TableEstimator):
    def __init__(
        self,
        *,
        groups=None,
        kinds=None,
        generative_weight="auto",
        couplings=None,
        hidden_units=None,
        learning_rate=2e-3,
        epochs=200,
        batch_size=None,
        validation_fraction=0.15,
        draws=16,
        patience=10,
        abstain_fraction=0.02,
        random_state=None,
        verbose=0,
    ):
        self.groups = groups
        self.kinds = kinds
        self.generative_weight = generative_weight
        self.couplings = couplings
        self.hidden_units = hidden_units
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.draws = draws
        self.patience = patience
        self.abstain_fraction = abstain_fraction
        self.random_state = random_state
        self.verbose = verbose

    def _fit_with(self, head, X, y, sample_weight, offset=None):
        arguments.check_fraction(self.abstain_fraction, "abstain_fraction")
        if self.generative_weight != "auto":
            arguments.check_number(self.generative_weight, "generative_weight", 0)
        names, side = side_columns.names_of(self.groups), {}
        if names or offset is not None:
            if not self.is_of_frame_:
                option = f"groups is {self.groups!r}" if names else f"offset is {offset!r}"
                raise ValueError(f"{option}, but X has no names of columns; wanted a DataFrame.")
            X, side = side_columns.split(X, names, offset)
        groups = side_columns.checked_groups(side, offset)

        def make(p_x, size, rows):
            weight = 1 / size if self.generative_weight == "auto" else self.generative_weight
            return HybridModel(p_x, side_columns.head_with(head, groups, offset, rows), generative_weight=weight)

        training, (x, y, weights) = self._train(make, X, y, sample_weight, side)
        if groups:
            self._fit_effects(*training)
        columns = side_inputs.main(x)
        self.log_widths_ = log_widths(self.model_, columns, columns)
        self.threshold_ = np.quantile(self._comparable(x), self.abstain_fraction)
        if weights is not None and weights.any():  # rows as often as they weigh
            drawn = np.random.default_rng(0).choice(len(y), len(y), p=weights / weights.sum())
            x, y = side_inputs.take(x, drawn), y[drawn]
        with contextlib.suppress(ValueError):  # if all held-out rows are right, there is no best factor
            factor = calibrate(self.model_, x, y)
            if factor < 1:  # so few rows are no reason to be more certain
                self.model_.head.widen(1 / factor)
        return self

    def _fit_effects(self, x, y, sample_weight):
        try:
            bayes.fit_effects(self.model_, x, y, sample_weight, prior=_PRIOR)
        except ValueError as error:
            warnings.warn(f"The effects of groups are approximate, as training found them. {error}", stacklevel=4)

    def abstains(self, X):
        """Returns for which rows `comparable_log_prob` is below `threshold_`, that of a fraction of the held-out rows.

        It is also true for rows with a level that was never seen, or a hole in a column that had none. `(n,)`.
        """
        x = self._rows(X)  # first, since it checks whether there is a threshold
        return (self._comparable(x) < self.threshold_) | self.columns_.has_new(side_inputs.main(x))

    def comparable_log_prob(self, X):
        """Returns log p(x) in units in which rows with and without holes compare, `(n,)`.

        A hole has a probability, and a number in its place a density, which depends on the unit of the column. It is
        multiplied here by the width of the usual numbers, in each column that has holes.
        """
        return self._comparable(self._rows(X))

    def _comparable(self, x):
        return self._log_prob(x) + np.where(np.isnan(side_inputs.main(x)), 0.0, self.log_widths_).sum(1)


class HybridClassifier(ClassifierMixin, _Supervised):
    """A classifier that also has the density of its inputs.

    Tables are DataFrames, whose columns `tables.Columns` takes apart: numbers, categories, circles, dates, holes; or
    arrays of numbers, with NaN in holes. p(y|x) is calibrated by one factor on the held-out rows.

    With `groups`, the logits have random effects for the group that a row belongs to, such as a school: one with few
    rows is drawn to the mean of all, and one that was not in training has the mean effect and the variance of all
    (`heads.MixedEffects`). All effects and their variances are found after training (`bayes.fit_effects`), from the
    rows that were not held out.

    Args:
      groups: The name of a column of X with the ids of groups, integers or strings, or a list of such names. X is then
        a DataFrame, of which these columns are not in the density.
      kinds: Kinds of columns by name, where `tables.infer_kinds` is wrong; or None.
      generative_weight: lambda, the weight of log p(x) in nats; "auto" is 1 divided by the size of z.
      couplings: The number of couplings of the flow, a `RealNVP`; 4 if None, or for a classifier of fewer than 2,000
        rows 2, with a dropout of 0.3.
      hidden_units: The width of the two hidden layers of each; the square root of the number of rows, between 8 and 64,
        if None.
      learning_rate: That of Adam.
      epochs: The most epochs.
      batch_size: The rows of a batch; a hundredth of all, between 16 and 1,024, if None.
      validation_fraction: The fraction of the rows that is held out to stop training; of 20 rows or more.
      draws: Of how many draws of the noise in cells and holes a prediction is the mean; see `tables.Columns.draw`.
      patience: After how many epochs in which the loss of these rows has not fallen training stops.
      abstain_fraction: The fraction of these rows on which the model would abstain.
      random_state: A seed, a `numpy.random.RandomState`, or None.
      verbose: As in `keras.Model.fit`.

    Attributes:
      model_: The `HybridModel`, a Keras model.
      columns_: The `tables.Columns`.
      classes_: The classes.
      log_widths_: The logarithm of the width of the usual numbers of each column that has holes; 0 for others.
      threshold_: The `comparable_log_prob`, in nats, below which the model abstains.
      n_iter_: The number of epochs.
      held_out_: The numbers of the rows that were held out; of all rows, if there were too few.
    """

    few_rows_overfit = True

    def fit(self, X, y, sample_weight=None):
        """Fits the model to rows X, `(n, d)`, and their classes y, `(n,)`, of any type."""
        X, y = self._validated(X, y)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {str(self.classes_[0])!r}; wanted at least two classes.")
        return self._fit_with(heads.Categorical(len(self.classes_), dtype="float64"), X, codes, sample_weight)

    def predict_proba(self, X):
        """Returns p(y|x), `(n, n_classes)`, in the order of `classes_`."""
        heads_see = [features for _, features in self._passes(self._rows(X))]
        probabilities = np.mean([self.model_.head(features).probs_parameter() for features in heads_see], 0)
        return probabilities / probabilities.sum(1, keepdims=True)

    def decision_function(self, X):
        """Returns log p(y|x) of each class, `(n, n_classes)`; of two classes the log odds of the second, `(n,)`."""
        with np.errstate(divide="ignore"):
            log_p = np.log(self.predict_proba(X))
        return log_p if log_p.shape[1] > 2 else log_p[:, 1] - log_p[:, 0]

    def predict(self, X):
        """Returns the most probable class of each row, `(n,)`."""
        codes = self.predict_proba(X).argmax(1)  # first, since it checks whether there are classes
        return self.classes_[codes]


class HybridRegressor(RegressorMixin, _Supervised):
    """A regressor whose response is a mixture of three Normals given x, that also has the density of its inputs.

    With groups or an offset, the response is one Normal, whose mean is a linear function of z, plus the effects of the
    groups, plus the offset. Its other arguments and its attributes are those of `HybridClassifier`.

    Args:
      offset: The name of a column of X that is a known part of the mean of y, in the unit of y; or None. It is not a
        column of the density.
    """

    def __init__(
        self,
        *,
        groups=None,
        offset=None,
        kinds=None,
        generative_weight="auto",
        couplings=None,
        hidden_units=None,
        learning_rate=2e-3,
        epochs=200,
        batch_size=None,
        validation_fraction=0.15,
        draws=16,
        patience=10,
        abstain_fraction=0.02,
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            groups=groups,
            kinds=kinds,
            generative_weight=generative_weight,
            couplings=couplings,
            hidden_units=hidden_units,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            draws=draws,
            patience=patience,
            abstain_fraction=abstain_fraction,
            random_state=random_state,
            verbose=verbose,
        )
        self.offset = offset

    def fit(self, X, y, sample_weight=None):
        """Fits the model to rows X, `(n, d)`, and their responses y, `(n,)`."""
        X, y = self._validated(X, y, y_numeric=True)
        # Of a mixture, groups would have effects on all weights, means and scales.
        make = heads.NormalMixture if self.offset is None and not self.groups else heads.Normal
        return self._fit_with(make(dtype="float64"), X, y, sample_weight, self.offset)

    def predict_distribution(self, X):
        """Returns p(y|x), a `tfd.Distribution` with batch shape `(n,)`."""
        features = tf.stack([features for _, features in self._passes(self._rows(X))], 1)
        of_draws = self.model_.head(features)
        if features.shape[1] == 1:
            return self.model_.head(features[:, 0])
        return tfd.MixtureSameFamily(tfd.Categorical(logits=tf.zeros(features.shape[:2], features.dtype)), of_draws)

    def predict(self, X, return_std=False):
        """Returns the mean of p(y|x), `(n,)`, and its standard deviation if asked for."""
        p_y = self.predict_distribution(X)
        mean = p_y.mean().numpy().astype("float64")
        return (mean, p_y.stddev().numpy().astype("float64")) if return_std else mean

    def predict_interval(self, X, level=0.9):
        """Returns the central interval of p(y|x), `(2, n)`, lower ends first; y is in it with probability `level`."""
        arguments.check_fraction(level, "level")
        tail = (1 - level) / 2
        return quantile(self.predict_distribution(X), [tail, 1 - tail]).astype("float64")
