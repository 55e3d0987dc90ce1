"""The methods of the one-class benchmark: a flow, and four of scikit-learn; scores are higher for anomalies."""

import functools

import keras
import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

import tfp_hybrid as hy
from paper.adbench_data import Split

Scores = tuple[np.ndarray, np.ndarray]  # of normal test rows and of anomalies

FLOW, LOOKS = "flow", "flow, three looks"
NEIGHBOUR, NEIGHBOURS, FOREST, SVM, COMPONENTS = "5-NN", "5-NN, mean", "IsolationForest", "OCSVM", "PCA"
NOISE = 0.05  # standard deviations
COUPLINGS, HIDDEN = 6, (64, 64)
RATE, STEPS, BATCH, STEPS_BETWEEN_CHECKS, PATIENCE = 2e-3, 2000, 128, 100, 8
HELD_OUT = 1 / 7
NEAREST = 3
ROWS_TO_ADAPT, ROWS_TO_CHECK, ROWS_AT_ONCE = 4000, 2000, 2048
SETTINGS = {
    "noise": NOISE,
    "flow": [COUPLINGS, *HIDDEN],
    "optimizer": [RATE, STEPS, BATCH],
    "nearest": NEAREST,
    "early_stopping": [HELD_OUT, STEPS_BETWEEN_CHECKS, PATIENCE],
}


class Flow:
    """Fits p(x) of the splits of one set, all with the same program, which XLA compiles once.

    A fit sees x + NOISE e with fresh e ~ Normal(0, I) in each step, so the density is that of the rows smoothed by a
    Gaussian kernel of that width, and bounded where rows lie on a plane. If the columns are integers, the noise of
    uniform dequantization is added, too, around each integer. Rows are scored as they are, without noise.

    Args:
      features: The number of columns of x, d.
      quick: Whether to train hardly at all.
    """

    def __init__(self, features: int, quick: bool = False):
        self._features, self._checks = features, 2 if quick else STEPS // STEPS_BETWEEN_CHECKS
        self.model = _model(features)
        rate = keras.optimizers.schedules.CosineDecay(RATE, STEPS, alpha=0.01)
        self._optimizer = keras.optimizers.Adam(rate, clipnorm=10.0)
        self.model.compile(self._optimizer, jit_compile=not quick, steps_per_execution=STEPS_BETWEEN_CHECKS)
        self._optimizer.build(self.model.trainable_variables)
        self._start = [variable.numpy() for variable in self._optimizer.variables]

    def fit(self, split: Split, seed: int):
        """Trains new weights, until held-out rows of the training rows have not got better for a while."""
        rng = np.random.default_rng(seed)
        keras.utils.set_random_seed(seed)
        start = [*(variable.numpy() for variable in _model(self._features).variables), *self._start]
        for variable, value in zip([*self.model.variables, *self._optimizer.variables], start, strict=True):
            variable.assign(value)
        rows = rng.permutation(split.train)
        held_out, rows = np.split(rows, [round(HELD_OUT * len(rows))])
        self.model.adapt(_smoothed(_repeated(rows, ROWS_TO_ADAPT), split.units, rng))
        self.model.fit(
            _batches(rows, split.units, seed),
            epochs=self._checks,
            steps_per_epoch=STEPS_BETWEEN_CHECKS,
            validation_data=(_smoothed(_repeated(held_out, ROWS_TO_CHECK), split.units, rng),),
            validation_batch_size=ROWS_TO_CHECK,
            callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True)],
            verbose=0,
        )

    def scores(self, split: Split) -> dict[str, Scores]:
        """Returns -log p(x) in nats, and the same combined with distances to the nearest training rows in z and in x.

        The combination is by Fisher's method, of p-values by the training rows.
        """
        density = hy.uncertainty.NegativeLogProb()
        looks = [density, *(hy.uncertainty.KNearest(k=NEAREST, of=of) for of in ("z", "x"))]
        combined = hy.uncertainty.combine(looks, "fisher").fit(self.model, split.train, ROWS_AT_ONCE)
        return {
            name: tuple(score.score(self.model, rows, ROWS_AT_ONCE) for rows in (split.test, split.anomalies))
            for name, score in ((FLOW, density), (LOOKS, combined))
        }


def _model(features):
    conditioner = functools.partial(hy.networks.MLP, hidden_units=HIDDEN, activation="tanh")
    parts = [hy.bijectors.Whitening((features,), min_scale=1e-2, shrinkage=True)]
    parts += [hy.bijectors.RealNVP((features,), couplings=COUPLINGS, conditioner=conditioner)]
    return hy.DensityModel(hy.flow_distribution(hy.bijectors.FusedChain(parts, (features,))))


def _repeated(rows, least):
    return np.repeat(rows, -(-least // len(rows)), axis=0)


def _smoothed(rows, units, rng):
    noise = NOISE * rng.normal(size=rows.shape) + units * rng.uniform(-0.5, 0.5, rows.shape)
    return (rows + noise).astype("float32")


def _batches(rows, units, seed):
    """Endless batches of the rows, with new noise each time."""
    units = tf.constant(units, tf.float32)

    def add_noise(rows, seeds):
        normal = tf.random.stateless_normal(tf.shape(rows), seeds[0])
        return rows + NOISE * normal + units * tf.random.stateless_uniform(tf.shape(rows), seeds[1], -0.5, 0.5)

    seeds = tf.data.Dataset.random(seed).batch(4, drop_remainder=True).map(lambda four: tf.reshape(four, [2, 2]))
    batches = tf.data.Dataset.from_tensor_slices(rows).shuffle(len(rows), seed).repeat().batch(BATCH)
    return tf.data.Dataset.zip(batches, seeds).map(add_noise)


def neighbours(split: Split) -> dict[str, Scores]:
    """Returns scores by the distances to the five nearest training rows: the fifth of them, and their mean."""
    model = NearestNeighbors(n_neighbors=5).fit(split.train)
    test, anomalies = (model.kneighbors(rows)[0] for rows in (split.test, split.anomalies))
    return {NEIGHBOUR: (test[:, -1], anomalies[:, -1]), NEIGHBOURS: (test.mean(1), anomalies.mean(1))}


def forest(split: Split, seed: int) -> dict[str, Scores]:
    """Returns scores by an isolation forest."""
    model = IsolationForest(random_state=seed).fit(split.train)
    return {FOREST: tuple(-model.score_samples(rows) for rows in (split.test, split.anomalies))}


def support_vectors(split: Split) -> dict[str, Scores]:
    """Returns scores by a one-class support vector machine."""
    model = OneClassSVM().fit(split.train)
    return {SVM: tuple(-model.decision_function(rows) for rows in (split.test, split.anomalies))}


def components(split: Split) -> dict[str, Scores]:
    """Returns scores by the error of rebuilding a row from the components with 90 % of the variance."""
    model = PCA(0.9, svd_solver="full").fit(split.train)

    def errors(rows):
        return np.square(rows - model.inverse_transform(model.transform(rows))).sum(1)

    return {COMPONENTS: (errors(split.test), errors(split.anomalies))}


def peers(split: Split, seed: int) -> dict[str, Scores]:
    """Returns the scores of all methods of scikit-learn."""
    return neighbours(split) | forest(split, seed) | support_vectors(split) | components(split)
