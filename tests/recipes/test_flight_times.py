import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from helpers import autodiff_log_det

from tfp_hybrid.datasets.flight_tables import FEATURES
from tfp_hybrid.recipes import FlightTimes

AIR, ARRIVAL, DEPARTURE = 4, 6, 7


DAY = 24 * 60.004


def line(minutes):
    """L of the docstring."""
    return DAY / 4 * scipy.special.logit(minutes / DAY)


def flight(departure, air, arrival):
    return np.array([[1, 2, 3, 4, air, 500, arrival, departure]], np.float64)


def test_columns_are_those_of_the_data_set():
    assert FEATURES[AIR] == "AirTime" and FEATURES[ARRIVAL] == "ArrTime" and FEATURES[DEPARTURE] == "DepTime"
    assert FlightTimes().inverse_event_shape((len(FEATURES),)) == (8,)


def test_arrival_is_counted_from_departure():
    z = FlightTimes().inverse(tf.constant(flight(905, 100, 1055)))[0].numpy()
    assert z[ARRIVAL] == pytest.approx(line(110 - 100 + 0.004 + DAY / 2), abs=1e-5)
    assert z[DEPARTURE] == pytest.approx(line(4 * 60.004 + 35.004))
    np.testing.assert_array_equal(np.delete(z, [ARRIVAL, DEPARTURE]), [1, 2, 3, 4, 100, 500])


def test_midnight_makes_no_difference():
    before = float(FlightTimes().inverse(tf.constant(flight(2150, 60, 2310)))[0, ARRIVAL])
    after = float(FlightTimes().inverse(tf.constant(flight(2350, 60, 110)))[0, ARRIVAL])
    assert before == pytest.approx(after, abs=1e-9) and before == pytest.approx(line(20.008 + DAY / 2), abs=1e-5)


def test_departures_are_counted_from_half_past_four():
    x = np.concatenate([flight(hhmm, 60, 600) for hhmm in (440, 2359, 1, 420)])
    z = FlightTimes().inverse(tf.constant(x))[:, DEPARTURE]
    minutes = np.array([10, 19 * 60.004 + 29, 19 * 60.004 + 31.004, 24 * 60.004 - 10])
    np.testing.assert_allclose(z, line(minutes), rtol=1e-6)


@pytest.mark.parametrize("dtype, atol", [("float32", 2e-3), ("float64", 1e-8)])
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
    share = scipy.special.expit(z.numpy()[:, [ARRIVAL, DEPARTURE]].astype(float) / (DAY / 4))
    np.testing.assert_allclose(log_det, np.log(0.25 / (share * (1 - share))).sum(1), atol=10 * atol)
    np.testing.assert_allclose(bijector.forward(tf.identity(z)), x, atol=atol)


def test_numbers_that_no_clock_shows_come_back_too():
    x = tf.constant(np.random.default_rng(1).uniform(-3000, 6000, (20_000, 8)))
    bijector = FlightTimes()
    z, log_det = bijector.inverse_and_log_det(x)
    np.testing.assert_allclose(bijector.forward(tf.identity(z)), x, atol=0.05)  # gaps stretch errors
    back = bijector.forward_and_log_det(tf.identity(z))[1]
    assert np.mean(np.abs(back + log_det) < 1e-4) > 0.999  # the others are at the edge of a gap
    for row in range(20):
        assert autodiff_log_det(bijector.inverse, x[row]) == pytest.approx(log_det[row].numpy(), abs=1e-6)
