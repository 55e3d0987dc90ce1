"""Callbacks that compare values of a metric know which way is better."""

import keras
import numpy as np
import pytest
from helpers import blobs, integer_model, tiny_model

import tfp_hybrid as hy
from tfp_hybrid import uncertainty
from tfp_hybrid.models import metrics

X, Y = blobs(64)
RISING = ("log_prob_x", "accuracy")


def classifier():
    model = tiny_model(compile=False)
    model.compile("adam", metrics=[uncertainty.BrierScore(), uncertainty.ExpectedCalibrationError()])
    return model, X, Y


def regressor():
    return tiny_model(hy.heads.Normal()), X, X[:, 0]


def of_images():
    return integer_model(), np.random.default_rng(0).integers(0, 4, (16, 4, 4, 1)), np.arange(16) % 3


@pytest.mark.integration
@pytest.mark.parametrize(
    ("case", "names"),
    [
        (classifier, ("nll", "log_prob_x", "accuracy", "brier", "ece")),
        (regressor, ("rmse",)),
        (of_images, ("bits_per_dim",)),
    ],
)
def test_callbacks_know_the_direction(case, names, tmp_path):
    callbacks = {
        name: [
            keras.callbacks.EarlyStopping(monitor=f"val_{name}"),
            keras.callbacks.ReduceLROnPlateau(monitor=f"val_{name}"),
            keras.callbacks.ModelCheckpoint(tmp_path / f"{name}.keras", f"val_{name}", save_best_only=True),
        ]
        for name in names
    }
    model, x, y = case()
    model.fit(x, y, validation_data=(x, y), callbacks=sum(callbacks.values(), []), verbose=0)
    for name, watching in callbacks.items():
        better = (lambda a, b: a > b) if name in RISING else (lambda a, b: a < b)
        for callback in watching:
            assert bool(callback.monitor_op(1.0, 0.0)) == better(1.0, 0.0), (name, type(callback).__name__)


@pytest.mark.parametrize("cls", [uncertainty.BrierScore, uncertainty.ExpectedCalibrationError])
def test_what_keras_looks_at(cls):
    """`_direction` is private in Keras: this fails if another version asks for something else."""

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, "softmax")])
    model.compile(metrics=[cls()], loss="mse")
    callback = keras.callbacks.EarlyStopping(monitor=f"val_{cls().name}")
    callback.set_model(model)
    model.compute_metrics(X[:2], Y[:2], model(X[:2, :1]))  # builds them
    callback._set_monitor_op()
    assert bool(callback.monitor_op(0.0, 1.0)) and callback.mode == "auto"


def test_a_mode_that_is_given_stays():
    model, odd = tiny_model(), keras.callbacks.EarlyStopping(monitor="nll", mode="max")
    others = [keras.callbacks.EarlyStopping(monitor="loss"), keras.callbacks.CSVLogger("unused")]
    metrics.set_directions([odd, *others], model)
    assert odd.mode == "max" and others[0].mode == "auto"


@pytest.mark.parametrize("cls", [metrics.BitsPerDim, metrics.LogProb, metrics.NegativeLogLikelihood])
def test_they_are_means(cls):
    metric = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(cls()))
    assert type(metric) is cls
    metric.update_state([1.0, 2.0])
    metric.update_state([6.0])
    assert float(metric.result()) == 3.0


@pytest.mark.integration
def test_an_auroc_needs_a_mode():
    monitor = uncertainty.OODMonitor(X, {"far": 9 * X})
    with pytest.raises(ValueError, match="Pass `mode='max'`"):
        tiny_model().fit(X, Y, callbacks=[monitor, keras.callbacks.EarlyStopping("auroc_far")], verbose=0)
    stopping = keras.callbacks.EarlyStopping("auroc_far", mode="max")
    tiny_model().fit(X, Y, callbacks=[monitor, stopping], verbose=0)
    assert stopping.best > 0.5 and 'mode="max"' in uncertainty.OODMonitor.__doc__
