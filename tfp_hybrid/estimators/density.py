"""`DensityEstimator`."""

import numpy as np
from sklearn.base import OutlierMixin

from tfp_hybrid.estimators.base import TableEstimator
from tfp_hybrid.models import DensityModel


class DensityEstimator(OutlierMixin, TableEstimator):
    """The density p(x) of rows by a flow; as an outlier detector, rows of low density are outliers.

    Its other arguments are those of `HybridClassifier`.

    Args:
      contamination: The fraction of the training rows that `predict` calls outliers, up to 0.5.

    Attributes:
      model_: The `DensityModel`, a Keras model.
      columns_: The `tables.Columns`.
      offset_: log p(x) below which a row is an outlier.
      n_iter_: The number of epochs.
      held_out_: The numbers of the rows that were held out; of all rows, if there were too few.
    """

    def __init__(
        self,
        *,
        contamination=0.05,
        kinds=None,
        couplings=None,
        hidden_units=None,
        learning_rate=2e-3,
        epochs=200,
        batch_size=None,
        validation_fraction=0.15,
        draws=16,
        patience=10,
        random_state=None,
        verbose=0,
    ):
        self.contamination = contamination
        self.kinds = kinds
        self.couplings = couplings
        self.hidden_units = hidden_units
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.draws = draws
        self.patience = patience
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, sample_weight=None):
        """Fits the density to rows X, `(n, d)`; y is ignored."""
        X, _ = self._validated(X)
        if not 0 < self.contamination <= 0.5:
            raise ValueError(f"contamination is {self.contamination!r}; wanted a fraction above 0, at most 0.5.")
        self._train(lambda p_x, *_: DensityModel(p_x), X, None, sample_weight)
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
