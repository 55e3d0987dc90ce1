"""Baselines for the flight delays: regressors that predict a Normal for each row."""

import pathlib

import keras
import numpy as np
import tensorflow_probability as tfp
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, cross_val_predict

from tfp_hybrid import files, recipes
from tfp_hybrid.commands import checkpoint
from tfp_hybrid.commands.progress import CONSOLE, TrainingBar
from tfp_hybrid.datasets.dataset import Split
from tfp_hybrid.serving.saved import MODEL

tfd = tfp.distributions

BATCH_SIZE = 1024


def constant(train: Split, test: Split) -> tfd.Normal:
    """Predicts the mean and standard deviation of the training responses."""
    _, y = train
    return _normal(np.full(len(test[0]), y.mean()), y.std())


def least_squares(train: Split, test: Split) -> tfd.Normal:
    """Predicts by linear regression, with the standard deviation of the training residuals."""
    x, y = train
    model = LinearRegression().fit(x, y)
    return _normal(model.predict(test[0]), np.std(y - model.predict(x)))


def boosting(train: Split, test: Split, iterations: int) -> tfd.Normal:
    """Predicts by gradient boosting of the mean and of the log of the squared residuals.

    The residuals of each half of the training rows come from a mean that is boosted on the other half. A common factor
    of the variances is chosen such that the squared residuals, divided by their variances, have the mean 1.

    Args:
      train: Training inputs and responses.
      test: Test inputs and responses.
      iterations: Number of boosting iterations.
    """
    x, y = train
    model = HistGradientBoostingRegressor(max_iter=iterations, random_state=0)
    with CONSOLE.status("boosting the mean"):
        squares = (y - cross_val_predict(model, x, y, cv=KFold(2, shuffle=True, random_state=0))) ** 2
        mean = model.fit(x, y).predict(test[0])
    with CONSOLE.status("boosting the variance"):
        model.fit(x, np.log(np.maximum(squares, 1e-3)))
        factor = np.mean(squares / np.exp(model.predict(x)))
    return _normal(mean, np.sqrt(factor * np.exp(model.predict(test[0]))))


def train_network(train: Split, folder: pathlib.Path, epochs: int, hidden_units: tuple[int, ...], seed: int):
    """Trains a multi-layer perceptron that predicts a mean and a standard deviation, unless it is already trained.

    After an interruption, training resumes after the last epoch. Inputs are standardized.

    Args:
      train: Training inputs and responses.
      folder: Folder for the checkpoint and the trained model.
      epochs: Number of epochs.
      hidden_units: Units of each hidden ReLU layer.
      seed: Random seed of the initial weights and the batches.
    """
    if not (folder / MODEL).exists():
        model = _trained_network(*train, folder, epochs, hidden_units, seed)
        with files.replacing(folder / MODEL) as temporary:
            model.save(temporary)


def _trained_network(x, y, folder, epochs, hidden_units, seed):
    keras.utils.set_random_seed(seed)
    normalization = keras.layers.Normalization()
    normalization.adapt(x[:: max(1, len(x) // 100_000)])
    layers = [keras.Input(x.shape[1:]), normalization]
    layers += [keras.layers.Dense(units, "relu") for units in hidden_units]
    outputs = keras.layers.Dense(2, kernel_initializer="zeros")
    model = keras.Sequential([*layers, outputs, Unstandardize(float(y.mean()), float(y.std()))])
    steps = len(x) // BATCH_SIZE
    model.compile(recipes.optimizer_for(2e-3, epochs * steps), loss=normal_nll)
    epoch = 0

    def follow(number, logs):
        nonlocal epoch
        epoch = number

    data = checkpoint.epoch_batches((x, y), BATCH_SIZE, seed, lambda: epoch)
    backup = keras.callbacks.BackupAndRestore(folder / "backup")
    with TrainingBar(steps) as bar:
        callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=follow), bar, backup]
        model.fit(data, epochs=epochs, callbacks=callbacks, shuffle=False, verbose=0)
    return model


def predict_network(model: keras.Model, test: Split) -> tfd.Normal:
    """Returns p(y|x) of a network from `train_network` for the test rows."""
    loc, scale = model.predict(test[0], batch_size=8192, verbose=0).T
    return _normal(loc, scale)


@keras.saving.register_keras_serializable(package="tfp_hybrid")
class Unstandardize(keras.layers.Layer):
    """Maps eta to the mean and the standard deviation of y, `m + s eta_1` and `s (softplus(eta_2) + 1e-3)`.

    Args:
      mean: m, the mean of the training responses.
      stddev: s, the standard deviation of the training responses.
    """

    def __init__(self, mean: float, stddev: float, **kwargs):
        super().__init__(**kwargs)
        self.mean, self.stddev = mean, stddev

    def call(self, eta):
        loc, scale = self.mean + self.stddev * eta[..., 0], self.stddev * (keras.ops.softplus(eta[..., 1]) + 1e-3)
        return keras.ops.stack([loc, scale], axis=-1)

    def get_config(self):
        return super().get_config() | {"mean": self.mean, "stddev": self.stddev}


@keras.saving.register_keras_serializable(package="tfp_hybrid")
def normal_nll(y, parameters):
    """Returns -log p(y) for y ~ Normal(parameters[..., 0], parameters[..., 1])."""
    return -tfd.Normal(parameters[..., 0], parameters[..., 1]).log_prob(keras.ops.reshape(y, [-1]))


def ensemble(members: list[tfd.Normal]) -> tfd.Normal:
    """Returns the Normal with the mean and variance of the uniform mixture of the members.

    References:
      Lakshminarayanan, Pritzel and Blundell 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep
      Ensembles", section 2.4.
    """
    means, stddevs = (np.stack([np.asarray(getattr(p, name)()) for p in members]) for name in ("mean", "stddev"))
    mean = means.mean(0)
    return _normal(mean, np.sqrt((stddevs**2 + means**2).mean(0) - mean**2))


def mixture(members: list[tfd.Normal]) -> tfd.MixtureSameFamily:
    """Returns the uniform mixture of the members."""
    means, stddevs = (np.stack([np.asarray(getattr(p, name)()) for p in members], -1) for name in ("mean", "stddev"))
    uniform = tfd.Categorical(logits=np.zeros(len(members), means.dtype))
    return tfd.MixtureSameFamily(uniform, tfd.Normal(means, stddevs))


def _normal(mean, stddev):
    mean = np.asarray(mean, np.float64)
    return tfd.Normal(mean, np.broadcast_to(stddev, mean.shape).astype(np.float64))
