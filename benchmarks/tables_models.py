"""The models that `python -m benchmarks tables` compares, each with one setting for all tables."""

import numpy as np
import pandas as pd
from sklearn import compose, ensemble, linear_model, neighbors, neural_network, pipeline, preprocessing
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.impute import SimpleImputer
from sklearn.model_selection import StratifiedKFold, train_test_split

MOST_LEVELS = 255  # of a category, the limit of HistGradientBoosting
HELD_OUT = 0.15  # of the training rows of a regressor, for its variance
RARE = "(rare)"

TITLES = {
    "ours": "tfp_hybrid",
    "hgb": "gradient boosting",
    "forest": "random forest",
    "linear": "linear",
    "mlp": "MLP",
    "iforest": "isolation forest",
    "knn": "5th neighbour",
}
DETECTORS = ("iforest", "knn")


class Categories(TransformerMixin, BaseEstimator):
    """Turns each column that is not numeric into a pandas categorical of at most `MOST_LEVELS` levels.

    In a column with more levels, the rare ones become one. A level that is not in the training rows becomes a rare one
    there, and missing elsewhere.
    """

    def fit(self, X, y=None):
        """Stores the levels of each column, the most frequent first."""
        counts = {name: X[name].value_counts() for name in X.select_dtypes(exclude=["number", "bool"])}
        self.levels_ = {name: [level for level, n in count.items() if n > 0] for name, count in counts.items()}
        return self

    def transform(self, X):
        """Returns a copy of the frame with categorical columns."""
        X = X.copy()
        for name, levels in self.levels_.items():
            column = X[name].astype(object)
            if len(levels) > MOST_LEVELS:
                levels = levels[: MOST_LEVELS - 1]
                column = column.where(column.isin(levels) | column.isna(), RARE)
                levels = [*levels, RARE]
            else:
                column = column.where(column.isin(levels), np.nan)
            X[name] = column.astype(pd.CategoricalDtype(levels))
        return X


def columns():
    """Returns the transformer of a frame to numbers.

    Numbers are standardized, and the mean replaces missing ones, which indicators mark. Categories become one-hot
    columns; a missing one is a level of its own.
    """
    numbers = pipeline.make_pipeline(SimpleImputer(add_indicator=True), preprocessing.StandardScaler())
    one_hot = preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return pipeline.make_pipeline(
        Categories(),
        compose.ColumnTransformer(
            [
                ("numbers", numbers, compose.make_column_selector(dtype_include=["number", "bool"])),
                ("categories", one_hot, compose.make_column_selector(dtype_include="category")),
            ]
        ),
    )


def classifier(name: str):
    """Returns an unfitted classifier of classes 0 .. K-1."""
    if name == "ours":
        import tfp_hybrid as hy

        return hy.HybridClassifier(random_state=0)
    if name == "hgb":
        boosting = ensemble.HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
        folds = StratifiedKFold(5, shuffle=True, random_state=0)  # the rows may be in the order of collection
        return pipeline.make_pipeline(Categories(), CalibratedClassifierCV(boosting, method="temperature", cv=folds))
    models = {
        "forest": lambda: ensemble.RandomForestClassifier(300, min_samples_leaf=3, random_state=0),
        "linear": lambda: linear_model.LogisticRegression(max_iter=2000),
        "mlp": lambda: neural_network.MLPClassifier(early_stopping=True, max_iter=1000, random_state=0),
    }
    return pipeline.make_pipeline(columns(), models[name]())


def regressor(name: str):
    """Returns an unfitted regressor; the MLP learns standardized targets."""
    if name == "ours":
        import tfp_hybrid as hy

        return hy.HybridRegressor(random_state=0)
    if name == "hgb":
        boosting = ensemble.HistGradientBoostingRegressor(categorical_features="from_dtype", random_state=0)
        return pipeline.make_pipeline(Categories(), boosting)
    models = {
        "forest": lambda: ensemble.RandomForestRegressor(300, min_samples_leaf=3, random_state=0),
        "linear": lambda: linear_model.Ridge(),
        "mlp": lambda: neural_network.MLPRegressor(early_stopping=True, max_iter=1000, random_state=0),
    }
    model = pipeline.make_pipeline(columns(), models[name]())
    if name == "mlp":
        return compose.TransformedTargetRegressor(model, transformer=preprocessing.StandardScaler())
    return model


def predict_normal(model, x, y, test_x):
    """Fits a regressor without a predictive variance; returns the means, `(n,)`, and one standard deviation, `()`.

    The variance is the mean squared error of a copy of the model, fitted to the other rows, on `HELD_OUT` of the
    rows. The model itself is fitted to all rows.
    """
    fit_x, held_out_x, fit_y, held_out_y = train_test_split(x, y, test_size=HELD_OUT, random_state=0)
    residuals = held_out_y - clone(model).fit(fit_x, fit_y).predict(held_out_x)
    return model.fit(x, y).predict(test_x), np.sqrt(np.mean(np.square(residuals)))


def unusualness(name: str, x, test_x):
    """Returns how unusual a detector, fitted to x, finds the rows of `test_x`, `(n,)`."""
    transformer = columns().fit(x)
    x, test_x = transformer.transform(x), transformer.transform(test_x)
    if name == "iforest":
        return -ensemble.IsolationForest(random_state=0).fit(x).score_samples(test_x)
    return neighbors.NearestNeighbors(n_neighbors=5).fit(x).kneighbors(test_x)[0][:, -1]
