"""scikit-learn's estimators: `HybridClassifier`, `HybridRegressor` and `DensityEstimator`, for tables of numbers."""

import contextlib
import pathlib
import random
import tempfile

import keras
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, OutlierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from tfp_hybrid import arguments, bijectors, heads
from tfp_hybrid.flows import flow_distribution
from tfp_hybrid.models import DensityModel, HybridModel, checks

_FEWEST_TO_HOLD_OUT = 20  # rows, of which a part is held out to stop
_MANY = 1000  # rows, from which on more couplings pay


class _Estimator(BaseEstimator):
    def _train(self, make, X, y, sample_weight):
        """Trains the model that `make(p_x)` builds, until the loss of held-out rows has not fallen for a while.

        Returns the inputs of these rows; all inputs if there are too few to hold some out.
        """
        if sample_weight is not None:
            sample_weight = checks.sample_weights(np.asarray(sample_weight), len(X), x_argument="X")
            if not sample_weight.any():
                raise ValueError("sample_weight is zero for all rows; wanted at least one positive weight.")
        rows, columns = X.shape
        couplings = self.couplings if self.couplings is not None else 2 if rows < _MANY else 4
        units = self.hidden_units if self.hidden_units is not None else int(np.clip(np.sqrt(rows), 8, 64))
        counts = {"couplings": couplings, "hidden_units": units, "epochs": self.epochs, "patience": self.patience}
        for name, count in counts.items():
            arguments.check_count(count, name, least=0 if name == "patience" else 1)
        arguments.check_batch_size(self.batch_size)
        arguments.check_number(self.learning_rate, "learning_rate", 0, open=True)
        arguments.check_fraction(self.validation_fraction, "validation_fraction")
        chance = check_random_state(self.random_state)
        with _seeded(chance.randint(2**31 - 1)):
            order = chance.permutation(rows)
            held_out = int(round(self.validation_fraction * rows)) if rows >= _FEWEST_TO_HOLD_OUT else 0
            parts = [
                tuple(None if column is None else column[chosen] for column in (X, y, sample_weight))
                for chosen in (order[held_out:], order[:held_out])
            ]
            model = make(flow_distribution(_flow(columns, couplings, units)))
            model.compile(keras.optimizers.Adam(self.learning_rate, clipnorm=10.0))
            monitor = "val_loss" if held_out else "loss"
            stopping = keras.callbacks.EarlyStopping(monitor, patience=self.patience, restore_best_weights=True)
            options = {"validation_data": parts[1]} if held_out else {}
            batch_size = self.batch_size or int(np.clip(rows // 20, 16, 256))
            history = model.fit(
                *parts[0][:2],
                sample_weight=parts[0][2],
                batch_size=batch_size,
                epochs=self.epochs,
                callbacks=[stopping],
                verbose=self.verbose,
                **options,
            )
        self.model_, self.n_iter_ = model, len(history.history["loss"])
        return parts[1 if held_out else 0][0]

    def _rows(self, X):
        check_is_fitted(self)
        return validate_data(self, X, reset=False, dtype="float64")

    def score_samples(self, X):
        """Returns log p(x) of each row in nats, `(n,)`; higher is more usual."""
        X = self._rows(X)
        return self.model_.log_prob(X).astype("float64")

    def sample(self, n_samples=1, random_state=None):
        """Draws rows from p(x), `(n_samples, n_features)`."""
        check_is_fitted(self)
        return self.model_.sample(n_samples, check_random_state(random_state).randint(2**31 - 1)).numpy()

    def __getstate__(self):
        state = super().__getstate__()
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "model.keras"
                state["model_"].save(path)
                state = state | {"model_": path.read_bytes()}
        return state

    def __setstate__(self, state):
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "model.keras"
                path.write_bytes(state["model_"])
                state = state | {"model_": keras.models.load_model(path)}
        super().__setstate__(state)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.random_state is None
        return tags


class _Supervised(_Estimator):
    def __init__(
        self,
        *,
        generative_weight="auto",
        couplings=None,
        hidden_units=None,
        learning_rate=2e-3,
        epochs=200,
        batch_size=None,
        validation_fraction=0.15,
        patience=10,
        abstain_fraction=0.02,
        random_state=None,
        verbose=0,
    ):
        self.generative_weight = generative_weight
        self.couplings = couplings
        self.hidden_units = hidden_units
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.abstain_fraction = abstain_fraction
        self.random_state = random_state
        self.verbose = verbose

    def _fit_with(self, head, X, y, sample_weight):
        arguments.check_fraction(self.abstain_fraction, "abstain_fraction")
        weight = 0.1 / X.shape[1] if self.generative_weight == "auto" else self.generative_weight
        arguments.check_number(weight, "generative_weight", 0)
        held_out = self._train(lambda p_x: HybridModel(p_x, head, generative_weight=weight), X, y, sample_weight)
        self.threshold_ = np.quantile(self.model_.log_prob(held_out), self.abstain_fraction)
        return self

    def abstains(self, X):
        """Returns for which rows log p(x) is below that of all but `abstain_fraction` of the held-out rows, `(n,)`."""
        log_prob = self.score_samples(X)  # first, since it checks whether there is a threshold
        return log_prob < self.threshold_


class HybridClassifier(ClassifierMixin, _Supervised):
    """A classifier that also has the density of its inputs.

    Args:
      generative_weight: lambda, the weight of log p(x) in nats; "auto" is 0.1 / n_features.
      couplings: The number of couplings of the flow, a `RealNVP`; 2 for fewer than 1,000 rows and 4 for more, if None.
      hidden_units: The width of the two hidden layers of each; the square root of the number of rows, between 8 and 64,
        if None.
      learning_rate: That of Adam.
      epochs: The most epochs.
      batch_size: The rows of a batch; a twentieth of all, between 16 and 256, if None.
      validation_fraction: The fraction of the rows that is held out to stop training; of 20 rows or more.
      patience: After how many epochs in which the loss of these rows has not fallen training stops.
      abstain_fraction: The fraction of these rows on which the model would abstain.
      random_state: A seed, a `numpy.random.RandomState`, or None.
      verbose: As in `keras.Model.fit`.

    Attributes:
      model_: The `HybridModel`, a Keras model.
      classes_: The classes.
      threshold_: log p(x) in nats below which the model abstains.
      n_iter_: The number of epochs.
    """

    def fit(self, X, y, sample_weight=None):
        """Fits the model to rows X, `(n, d)`, and their classes y, `(n,)`, of any type."""
        X, y = validate_data(self, X, y, dtype="float64")
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {str(self.classes_[0])!r}; wanted at least two classes.")
        return self._fit_with(heads.Categorical(len(self.classes_), dtype="float64"), X, codes, sample_weight)

    def predict_proba(self, X):
        """Returns p(y|x), `(n, n_classes)`, in the order of `classes_`."""
        X = self._rows(X)
        probabilities = self.model_.predict(X, batch_size=1024, verbose=0).astype("float64")
        return probabilities / probabilities.sum(1, keepdims=True)

    def predict(self, X):
        """Returns the most probable class of each row, `(n,)`."""
        codes = self.predict_proba(X).argmax(1)  # first, since it checks whether there are classes
        return self.classes_[codes]


class HybridRegressor(RegressorMixin, _Supervised):
    """A regressor with a Normal response, whose variance depends on x, that also has the density of its inputs.

    Its arguments and attributes are those of `HybridClassifier`.
    """

    def fit(self, X, y, sample_weight=None):
        """Fits the model to rows X, `(n, d)`, and their responses y, `(n,)`."""
        X, y = validate_data(self, X, y, dtype="float64", y_numeric=True)
        return self._fit_with(heads.HeteroscedasticNormal(dtype="float64"), X, y, sample_weight)

    def predict(self, X, return_std=False):
        """Returns the mean of p(y|x), `(n,)`, and its standard deviation if asked for."""
        X = self._rows(X)
        mean = self.model_.predict(X, batch_size=1024, verbose=0).astype("float64")
        if not return_std:
            return mean
        stddev = np.concatenate([batch.p_y.stddev() for batch in self.model_.encode_batches(X, 1024)])
        return mean, stddev.astype("float64")


class DensityEstimator(OutlierMixin, _Estimator):
    """The density p(x) of rows by a flow; as an outlier detector, rows of low density are outliers.

    Its other arguments are those of `HybridClassifier`.

    Args:
      contamination: The fraction of the training rows that `predict` calls outliers, up to 0.5.

    Attributes:
      model_: The `DensityModel`, a Keras model.
      offset_: log p(x) below which a row is an outlier.
      n_iter_: The number of epochs.
    """

    def __init__(
        self,
        *,
        contamination=0.05,
        couplings=None,
        hidden_units=None,
        learning_rate=2e-3,
        epochs=200,
        batch_size=None,
        validation_fraction=0.15,
        patience=10,
        random_state=None,
        verbose=0,
    ):
        self.contamination = contamination
        self.couplings = couplings
        self.hidden_units = hidden_units
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, sample_weight=None):
        """Fits the density to rows X, `(n, d)`; y is ignored."""
        X = validate_data(self, X, dtype="float64")
        if not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination is {self.contamination!r}; wanted a fraction above 0, at most 0.5.")
        self._train(DensityModel, X, None, sample_weight)
        self.offset_ = np.percentile(self.score_samples(X), 100 * self.contamination)
        return self

    def decision_function(self, X):
        """Returns log p(x) less `offset_`, `(n,)`; negative for outliers."""
        log_prob = self.score_samples(X)  # first, since it checks whether there is an offset
        return log_prob - self.offset_

    def predict(self, X):
        """Returns -1 for outliers and 1 for other rows, `(n,)`."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def score(self, X, y=None):
        """Returns the mean of log p(x) in nats."""
        return float(self.score_samples(X).mean())


def _flow(columns, couplings, units):
    if columns == 1:  # nothing to couple
        return bijectors.FusedChain([bijectors.ActNorm((1,), "float64"), bijectors.Spline((1,), dtype="float64")], (1,))
    return bijectors.RealNVP((columns,), couplings=couplings, hidden_units=(units, units), dtype="float64")


@contextlib.contextmanager
def _seeded(seed):
    """Seeds Keras, and leaves the generators of Python and numpy as they were."""
    before = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
