"""What the flights' hybrid models are compared with: regressors that give a Normal for each row."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from tfp_hybrid.experiments import recipes
from tfp_hybrid.experiments.progress import CONSOLE, TrainingBar
from tfp_hybrid.experiments.scoring import MODEL

tfd = tfp.distributions


def constant(train, test) -> tfd.Normal:
    """Mean and standard deviation of the training responses."""
    _, y = train
    return _normal(np.full(len(test[0]), y.mean()), y.std())


def least_squares(train, test) -> tfd.Normal:
    """Linear regression; one standard deviation, that of the training residuals."""
    x, y = train
    model = LinearRegression().fit(x, y)
    return _normal(model.predict(test[0]), np.std(y - model.predict(x)))


def boosting(train, test, iterations: int) -> tfd.Normal:
    """Gradient boosting of the mean by squares, then of the variance, as the mean of the squared training residuals.

    The gamma deviance of squared residuals is, up to a factor, the likelihood of a Normal in its variance.
    """
    x, y = train
    with CONSOLE.status("boosting the mean"):
        mean = HistGradientBoostingRegressor(max_iter=iterations, random_state=0).fit(x, y)
    squares = (y - mean.predict(x)) ** 2
    with CONSOLE.status("boosting the variance"):
        variance = HistGradientBoostingRegressor(loss="gamma", max_iter=iterations, random_state=0)
        variance.fit(x, np.maximum(squares, 1e-3))
    return _normal(mean.predict(test[0]), np.sqrt(variance.predict(test[0])))


@keras.saving.register_keras_serializable(package="tfp_hybrid")
def normal_nll(y, eta):
    """-log density of the standardized response, under Normal(eta_1, softplus(eta_2) + 1e-3)."""
    return -tfd.Normal(eta[..., 0], tf.math.softplus(eta[..., 1]) + 1e-3).log_prob(tf.reshape(y, [-1]))


def network(train, test, folder, epochs: int, hidden_units, seed: int, batch_size: int = 1024) -> tfd.Normal:
    """A multi-layer perceptron with a mean and a standard deviation as outputs; resumes after the last epoch.

    Args:
      train, test: inputs and responses; both are standardized by those of `train`.
      folder: where its checkpoint and the model are kept; a model that is there already is not trained again.
      epochs: of training.
      hidden_units: of each hidden layer, which are rectified.
      seed: of initial weights and batches.
      batch_size: of training.
    """
    x, y = train
    mean, stddev = y.mean(), y.std()
    if (folder / MODEL).exists():
        model = keras.models.load_model(folder / MODEL)
    else:
        model = _trained_network(x, (y - mean) / stddev, folder, epochs, hidden_units, seed, batch_size)
    eta = model.predict(test[0], batch_size=8192, verbose=0)
    return _normal(mean + stddev * eta[:, 0], stddev * (np.logaddexp(0, eta[:, 1]) + 1e-3))


def _trained_network(x, y, folder, epochs, hidden_units, seed, batch_size):
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    normalization = keras.layers.Normalization()
    normalization.adapt(x[:: max(1, len(x) // 100_000)])
    layers = [keras.Input(x.shape[1:]), normalization]
    layers += [keras.layers.Dense(units, "relu") for units in hidden_units]
    model = keras.Sequential([*layers, keras.layers.Dense(2, kernel_initializer="zeros")])
    steps = epochs * (len(x) // batch_size)
    model.compile(recipes.optimizer_for(2e-3, steps), loss=normal_nll)
    backup = keras.callbacks.BackupAndRestore(folder / "backup", delete_checkpoint=True)
    with TrainingBar() as bar:
        model.fit(x, y, batch_size, epochs, verbose=0, callbacks=[bar, backup])
    model.save(folder / MODEL)
    return model


def ensemble(members: list[tfd.Normal]) -> tfd.Normal:
    """The Normal with the mean and variance of the uniform mixture (Lakshminarayanan et al. 2017, section 2.4)."""
    means, stddevs = (np.stack([np.asarray(getattr(p, name)()) for p in members]) for name in ("mean", "stddev"))
    mean = means.mean(0)
    return _normal(mean, np.sqrt((stddevs**2 + means**2).mean(0) - mean**2))


def _normal(mean, stddev):
    mean = np.asarray(mean, np.float64)
    return tfd.Normal(mean, np.broadcast_to(stddev, mean.shape).astype(np.float64))
