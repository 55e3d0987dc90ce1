"""`FlightTimes`: a bijector between clock times of flights, such as 1345, and minutes."""

import numpy as np
import tensorflow as tf

from tfp_hybrid.bijectors import FusedBijector

# Columns of `datasets.flight_tables.FEATURES`. It is not imported here, because saved models need this class whenever
# the package is imported, and `datasets` would import tensorflow_datasets.
_COLUMNS, _AIR, _ARRIVAL, _DEPARTURE = 8, 4, 6, 7

# Between the 60th minute and the next hour, hhmm numbers have a gap of 40 that are not valid times. The gap is squeezed
# instead of removed, so that the map is invertible on all real numbers.
_SQUEEZE = 0.01
_HOUR = 60 + 40 * _SQUEEZE
_DAY = 24 * _HOUR


class FlightTimes(FusedBijector):
    """Maps the departure of a flight to minutes, and its arrival to minutes relative to departure and air time.

    Let m(t) be the minutes since midnight of the hhmm number t, where an hour has 60.4 minutes because of the squeezed
    gap. Then

        inverse:  DepTime -> m(DepTime)
                  ArrTime -> (m(ArrTime) - m(DepTime) - AirTime) mod one day, in [-1/2, 1/2) day

    The latter is the time that a flight spent on the ground plus the change of time zones. Like the delay, it is
    continuous at midnight. The modulus maps a day of arrivals, hhmm in [1, 2401), onto one day; arrivals outside this
    range, which are not valid times, are not wrapped. Both maps are shifts, so

        log|det dz/dx| = 0        (log 0.01 for each time in a gap, such as 1270)

    Args:
      name: Prefix of the names of the ops.
    """

    def __init__(self, name: str = "flight_times"):
        super().__init__((_COLUMNS,), parameters=dict(locals()), name=name)

    def _inverse_and_log_det(self, x, training=False):
        air, arrival, departure = (x[..., i] for i in (_AIR, _ARRIVAL, _DEPARTURE))
        start, log_det = _minutes(departure)
        end, arrival_log_det = _minutes(arrival)
        # The arrival is rotated within the day that begins at hhmm = 1, by an amount that depends on other columns.
        rotated = _rotate(end - 1, 1 - start - air) - _DAY / 2
        return self._with(x, rotated, start), log_det + arrival_log_det

    def _forward_and_log_det(self, z, training=False):
        air, rotated, start = (z[..., i] for i in (_AIR, _ARRIVAL, _DEPARTURE))
        end = _rotate(rotated + _DAY / 2, start + air - 1) + 1
        arrival, log_det = _hhmm(end)
        departure, departure_log_det = _hhmm(start)
        return self._with(z, arrival, departure), log_det + departure_log_det

    def _with(self, value, arrival, departure):
        columns = tf.unstack(value, axis=-1)
        columns[_ARRIVAL], columns[_DEPARTURE] = arrival, departure
        return tf.stack(columns, axis=-1)


def _minutes(hhmm):
    """Returns the minutes of an hhmm number, and the log of the slope of this map."""
    hour = tf.floor(hhmm / 100)
    rest = hhmm - 100 * hour
    gap = rest > 60
    minutes = _HOUR * hour + tf.where(gap, 60 + _SQUEEZE * (rest - 60), rest)
    return minutes, tf.where(gap, tf.constant(np.log(_SQUEEZE), hhmm.dtype), 0.0)


def _hhmm(minutes):
    """Returns the hhmm number of minutes, the inverse of `_minutes`, and the log of the slope of this map."""
    hour = tf.floor(minutes / _HOUR)
    rest = minutes - _HOUR * hour
    gap = rest > 60
    hhmm = 100 * hour + tf.where(gap, 60 + (rest - 60) / _SQUEEZE, rest)
    return hhmm, tf.where(gap, tf.constant(-np.log(_SQUEEZE), minutes.dtype), 0.0)


def _rotate(time, by):
    """Shifts times in [0, one day) by `by`, modulo one day; returns other times unchanged."""
    inside = (time >= 0) & (time < _DAY)
    return tf.where(inside, tf.math.floormod(time + by + _DAY / 2, _DAY), time)
