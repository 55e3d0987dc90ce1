import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import blobs, tiny_model

from tfp_hybrid import uncertainty
from tfp_hybrid.uncertainty import classification

X, Y = blobs(256)


@pytest.mark.integration
def test_the_monitor_reports_the_models_auroc():
    model, far = tiny_model(), 3 * X[:100] + 1
    monitor = uncertainty.OODMonitor(X[:50], {"far": far, "near": X[50:100]})
    history = model.fit(X, Y, epochs=2, verbose=0, callbacks=[monitor]).history
    inside = -np.asarray(model.distribution.log_prob(X[:50]))
    expected = uncertainty.detection.auroc(inside, -np.asarray(model.distribution.log_prob(far)))
    assert len(history["auroc_far"]) == 2 and history["auroc_far"][-1] == pytest.approx(expected, abs=1e-6)
    assert history["auroc_near"][-1] < 0.8


def test_the_monitor_fits_its_score_at_each_epoch_that_it_measures():
    model = tiny_model()
    monitor = uncertainty.OODMonitor(X[:50], {"far": 9 * X[:50]}, uncertainty.Typicality(), every=2)
    history = model.fit(X, Y, epochs=4, verbose=0, callbacks=[monitor]).history
    values = history["auroc_far"]
    assert len(values) == 4 and values[0] == values[1] and values[2] == values[3]


def test_wrong_arguments_are_explained():
    with pytest.raises(ValueError, match="`outside` is"):
        uncertainty.OODMonitor(X, X)
    with pytest.raises(ValueError, match="`every` is 0"):
        uncertainty.OODMonitor(X, {"far": X}, every=0)
    with pytest.raises(ValueError, match="OODMonitor: far has shape"):
        tiny_model().fit(X, Y, callbacks=[uncertainty.OODMonitor(X, {"far": X[:, :1]})], verbose=0)
    with pytest.raises(ValueError, match="`bins` is 0"):
        uncertainty.ExpectedCalibrationError(bins=0)
    for metric in (uncertainty.ExpectedCalibrationError(), uncertainty.BrierScore()):
        with pytest.raises(ValueError, match="y_true has shape"):
            metric.update_state(np.eye(3), np.eye(3))
        with pytest.raises(ValueError, match="y_pred has shape"):
            metric.update_state(np.zeros(3), np.zeros((3, 2, 2)))


def test_keras_metrics_of_two_classes_take_the_probability_of_one():
    rng = np.random.default_rng(0)
    p, y = rng.uniform(size=100).astype("float32"), rng.integers(0, 2, 100)
    both = np.stack([1 - p, p], -1)
    for metric, function in (
        (uncertainty.ExpectedCalibrationError(), classification.expected_calibration_error),
        (uncertainty.BrierScore(), classification.brier),
    ):
        metric.update_state(y, p)
        assert float(metric.result()) == pytest.approx(function(both, y), abs=1e-6)


@pytest.mark.parametrize(
    "metric, function",
    [
        (uncertainty.ExpectedCalibrationError(), classification.expected_calibration_error),
        (uncertainty.BrierScore(), classification.brier),
    ],
)
def test_keras_metrics_equal_the_functions(metric, function):
    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(4), 500).astype("float32"), rng.integers(0, 4, 500)
    for part in np.array_split(np.arange(500), 7):
        metric.update_state(y[part], p[part])
    assert float(metric.result()) == pytest.approx(function(p, y), abs=1e-6)
    again = type(metric).from_config(metric.get_config())
    again.update_state(y[:, None], tf.constant(p), sample_weight=np.arange(500) < 100)
    assert float(again.result()) == pytest.approx(function(p[:100], y[:100]), abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


@pytest.mark.integration
def test_keras_metrics_work_in_training(tmp_path):
    model = tiny_model(compile=False)
    metrics = [uncertainty.ExpectedCalibrationError(), uncertainty.BrierScore()]
    model.compile(keras.optimizers.Adam(1e-3), metrics=metrics)
    model.fit(X, Y, verbose=0)
    logs = model.evaluate(X, Y, return_dict=True, verbose=0)
    p = model.predict(X, verbose=0)
    assert logs["ece"] == pytest.approx(classification.expected_calibration_error(p, Y), abs=1e-5)
    assert logs["brier"] == pytest.approx(classification.brier(p, Y), abs=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(X, Y, return_dict=True, verbose=0)["ece"] == pytest.approx(logs["ece"], abs=1e-5)
