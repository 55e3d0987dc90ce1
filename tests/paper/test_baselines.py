"""The regressors that hybrid models are compared with, against other libraries and closed forms."""

import numpy as np
import pytest
import scipy.stats
import tensorflow_probability as tfp
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from paper import baselines, gaussian_process

tfd = tfp.distributions


def rows(count, seed=0):
    """y = 3 x_1 with a standard deviation of 0.5 for negative and 2 for positive x_0."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 2)).astype("float32")
    noise = np.where(x[:, 0] < 0, 0.5, 2.0)
    return x, (3 * x[:, 1] + noise * rng.normal(size=count)).astype("float32")


def test_constant_and_least_squares():
    (x, y), test = rows(500), rows(100, 1)
    p_y = baselines.constant((x, y), test)
    np.testing.assert_allclose(p_y.mean(), np.full(100, y.mean()), rtol=1e-5)
    np.testing.assert_allclose(p_y.stddev(), np.full(100, y.std()), rtol=1e-5)
    p_y = baselines.least_squares((x, y), test)
    ones = np.ones((500, 1))
    weights, residuals, *_ = np.linalg.lstsq(np.hstack([x, ones]).astype(float), y.astype(float))
    np.testing.assert_allclose(p_y.mean(), np.hstack([test[0], np.ones((100, 1))]) @ weights, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(p_y.stddev(), np.full(100, np.sqrt(residuals[0] / 500)), rtol=1e-4)


@pytest.mark.nightly
def test_boosting_finds_the_mean_and_the_variance():
    test = rows(2000, 1)
    p_y = baselines.boosting(rows(20_000), test, 50)
    left = test[0][:, 0] < -0.2
    right = test[0][:, 0] > 0.2
    assert np.median(p_y.stddev()[left]) == pytest.approx(0.5, rel=0.15)
    assert np.median(p_y.stddev()[right]) == pytest.approx(2.0, rel=0.1)
    assert np.corrcoef(p_y.mean(), 3 * test[0][:, 1])[0, 1] > 0.99


def test_ensemble_has_the_moments_of_the_mixture():
    members = [tfd.Normal([0.0, 1.0], [1.0, 2.0]), tfd.Normal([4.0, -1.0], [0.5, 1.0])]
    p_y = baselines.ensemble(members)
    drawn = np.concatenate([member.sample(200_000, seed=i) for i, member in enumerate(members)])
    np.testing.assert_allclose(p_y.mean(), drawn.mean(0), atol=0.02)
    np.testing.assert_allclose(p_y.stddev(), drawn.std(0), rtol=0.01)


def test_mixture_of_an_ensemble_is_the_mean_of_its_densities():
    members = [tfd.Normal([0.0, 1.0], [1.0, 2.0]), tfd.Normal([4.0, -1.0], [0.5, 1.0])]
    y = np.array([1.0, -3.0], "float32")
    density = np.mean([scipy.stats.norm(m.mean(), m.stddev()).pdf(y) for m in members], axis=0)
    np.testing.assert_allclose(baselines.mixture(members).prob(y), density, rtol=1e-5)


@pytest.mark.integration
def test_network_learns_and_resumes_where_it_was_killed(tmp_path, monkeypatch):
    train, test = rows(20_480), rows(1000, 1)
    epochs, bar = [], baselines.TrainingBar

    class Killing(bar):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)
            if epochs == [0, 1, 2]:
                raise KeyboardInterrupt
            super().on_epoch_begin(epoch, logs)

    monkeypatch.setattr(baselines, "TrainingBar", Killing)
    arguments = (train, tmp_path, 30, (32, 32), 0)
    with pytest.raises(KeyboardInterrupt):
        baselines.train_network(*arguments)
    assert not (tmp_path / "model.keras").exists()
    baselines.train_network(*arguments)
    assert epochs == [0, 1, 2, *range(2, 30)]
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]
    p_y = baselines.predict_network(baselines.keras.models.load_model(tmp_path / "model.keras"), test)
    truth = scipy.stats.norm(3 * test[0][:, 1], np.where(test[0][:, 0] < 0, 0.5, 2.0))
    assert -np.mean(p_y.log_prob(test[1])) == pytest.approx(-truth.logpdf(test[1]).mean(), abs=0.25)


@pytest.mark.integration
def test_an_interrupted_network_is_the_one_that_it_would_have_been(tmp_path, monkeypatch):
    train = rows(4096)

    class Interrupting(baselines.TrainingBar):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt
            super().on_epoch_begin(epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(baselines, "TrainingBar", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            baselines.train_network(train, tmp_path / "interrupted", 3, (8,), 0)
    weights = []
    for name in ("interrupted", "whole"):
        baselines.train_network(train, tmp_path / name, 3, (8,), 0)
        weights.append(baselines.keras.models.load_model(tmp_path / name / "model.keras").get_weights())
        assert [path.name for path in (tmp_path / name).iterdir()] == ["model.keras"]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gaussian_process_equals_scikit_learns_with_its_parameters():
    rng = np.random.default_rng(0)
    x = rng.uniform(-3, 3, (60, 1))
    y = 10 * np.sin(x[:, 0]) + rng.normal(size=60)
    predict, parameters = gaussian_process.fit(x, y, steps=100)
    kernel = ConstantKernel(parameters["amplitude"] ** 2) * RBF(parameters["length_scale"])
    stock = GaussianProcessRegressor(kernel + WhiteKernel(parameters["noise_variance"]), optimizer=None)
    stock.fit(x, (y - y.mean()) / y.std())
    new = np.linspace(-4, 4, 20)[:, np.newaxis]
    mean, stddev = stock.predict(new, return_std=True)
    np.testing.assert_allclose(predict(new).mean(), y.mean() + y.std() * mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(predict(new).stddev(), y.std() * stddev, rtol=1e-3)
    started = GaussianProcessRegressor(ConstantKernel(1.0) * RBF(1.0) + WhiteKernel(0.1), optimizer=None)
    started.fit(x, (y - y.mean()) / y.std())
    assert stock.log_marginal_likelihood_value_ > started.log_marginal_likelihood_value_ + 1, "learned"
