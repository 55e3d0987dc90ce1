import numpy as np
import pytest
import tensorflow as tf
from helpers import autodiff_log_det

from tfp_hybrid.datasets.flight_tables import FEATURES
from tfp_hybrid.recipes import FlightTimes

AIR, ARRIVAL, DEPARTURE = 4, 6, 7


def flight(departure, air, arrival):
    return np.array([[1, 2, 3, 4, air, 500, arrival, departure]], np.float64)


def test_columns_are_those_of_the_data_set():
    assert FEATURES[AIR] == "AirTime" and FEATURES[ARRIVAL] == "ArrTime" and FEATURES[DEPARTURE] == "DepTime"
    assert FlightTimes().inverse_event_shape((len(FEATURES),)) == (8,)


def test_arrival_is_counted_from_departure():
    z = FlightTimes().inverse(tf.constant(flight(905, 100, 1055)))[0].numpy()
    assert z[ARRIVAL] == pytest.approx(110 - 100 + 0.4) and z[DEPARTURE] == pytest.approx(9 * 60.4 + 5)
    np.testing.assert_array_equal(np.delete(z, [ARRIVAL, DEPARTURE]), [1, 2, 3, 4, 100, 500])


def test_midnight_makes_no_difference():
    before = float(FlightTimes().inverse(tf.constant(flight(2150, 60, 2310)))[0, ARRIVAL])
    after = float(FlightTimes().inverse(tf.constant(flight(2350, 60, 110)))[0, ARRIVAL])
    assert before == pytest.approx(after, abs=1e-9) and before == pytest.approx(20.8, abs=1e-9)


@pytest.mark.parametrize("dtype, atol", [("float32", 2e-3), ("float64", 1e-9)])
def test_every_time_of_day_comes_back(dtype, atol):
    rng = np.random.default_rng(0)
    clock = (100 * np.arange(24)[:, np.newaxis] + np.arange(60)).ravel()
    clock = np.append(clock[1:], 2400)
    x = np.concatenate(
        [flight(*row) for row in zip(rng.permutation(clock), rng.integers(20, 400, 1440), clock, strict=True)]
    )
    x = tf.constant(x + rng.uniform(0, 0.999, x.shape), dtype)
    bijector = FlightTimes()
    z, log_det = bijector.inverse_and_log_det(x)
    assert not np.any(log_det)
    assert np.abs(z[:, ARRIVAL]).max() <= 1449.6 / 2 + 1e-3
    np.testing.assert_allclose(bijector.forward(tf.identity(z)), x, atol=atol)


def test_numbers_that_no_clock_shows_come_back_too():
    x = tf.constant(np.random.default_rng(1).uniform(-3000, 6000, (20_000, 8)))
    bijector = FlightTimes()
    z, log_det = bijector.inverse_and_log_det(x)
    np.testing.assert_allclose(bijector.forward(tf.identity(z)), x, atol=1e-8)
    np.testing.assert_allclose(bijector.forward_and_log_det(tf.identity(z))[1], -log_det)
    for row in range(20):
        assert autodiff_log_det(bijector.inverse, x[row]) == pytest.approx(log_det[row].numpy(), abs=1e-9)
