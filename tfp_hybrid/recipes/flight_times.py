"""`FlightTimes`: a bijector between clock times of flights, such as 1345, and minutes."""

import numpy as np
import tensorflow as tf

from tfp_hybrid.bijectors import FusedBijector

# Columns of `datasets.flight_tables.FEATURES`. It is not imported here, because saved models need this class whenever
# the package is imported, and `datasets` would import tensorflow_datasets.
_COLUMNS, _AIR, _ARRIVAL, _DEPARTURE = 8, 4, 6, 7

# Between the 60th minute and the next hour, hhmm numbers have a gap of 40 that are not valid times. The gap is squeezed
# instead of removed, so that the map is invertible on all real numbers. It is as narrow as float32 can tell the minutes
# of a day apart, since what density a flow gives to a gap is wasted.
_SQUEEZE = 1e-4
_HOUR = 60 + 40 * _SQUEEZE
_DAY = 24 * _HOUR
_EDGE = 1e-6  # minutes at both ends of the day, into which all other numbers are squeezed
_QUIET = 4 * _HOUR + 30  # at half past four in the morning hardly anyone departs, and no gap is near


class FlightTimes(FusedBijector):
    """Maps the departure of a flight to minutes, and its arrival to minutes relative to departure and air time.

    Let m(t) be the minutes since midnight of the hhmm number t, where an hour has 60.004 minutes because of the
    squeezed gap. Then

        inverse:  DepTime -> L((m(DepTime) - 4:30 h) mod one day)
                  ArrTime -> L((m(ArrTime) - m(DepTime) - AirTime + 1/2 day) mod one day)

        L(t) = 1/4 day logit(t / 1 day),        log dL/dt = log(1/4 / ((t / 1 day) (1 - t / 1 day)))

    The former has its ends where hardly anyone departs. The latter is the time that a flight spent on the ground plus
    the change of time zones; like the delay, it is continuous at midnight. L maps a day to all numbers, so that a flow
    behind it draws hardly any time outside of the day and has next to no density there: what is not in a day, hhmm in
    [1, 2401), is squeezed to its ends. Each time in a gap, such as 1270, adds log 0.0001.

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
        rotated, arrival_log_slope = _to_line(_rotate(end - 1, 1 - start - air + _DAY / 2))
        since_quiet, departure_log_slope = _to_line(_rotate(start - 1, 1 - _QUIET))
        log_det += arrival_log_det + arrival_log_slope + departure_log_slope
        return self._with(x, rotated, since_quiet), log_det

    def _forward_and_log_det(self, z, training=False):
        air, rotated, since_quiet = (z[..., i] for i in (_AIR, _ARRIVAL, _DEPARTURE))
        start = _rotate(_from_line(since_quiet), _QUIET - 1) + 1
        end = _rotate(_from_line(rotated), start + air - 1 - _DAY / 2) + 1
        x = self._with(z, _hhmm(end), _hhmm(start))
        return x, -self._inverse_and_log_det(x)[1]

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
    """Returns the hhmm number of minutes, the inverse of `_minutes`."""
    hour = tf.floor(minutes / _HOUR)
    rest = minutes - _HOUR * hour
    return 100 * hour + tf.where(rest > 60, 60 + (rest - 60) / _SQUEEZE, rest)


def _rotate(time, by):
    """Shifts times in [0, one day) by `by`, modulo one day; returns other times unchanged."""
    inside = (time >= 0) & (time < _DAY)
    return tf.where(inside, tf.math.floormod(time + by, _DAY), time)


def _to_line(time):
    """Returns L of a time, where what is outside of the day is squeezed to its ends, and the log of its slope."""
    after, before = tf.maximum(time - _DAY, 0), tf.maximum(-time, 0)
    inside = tf.clip_by_value(time, 0, _DAY)
    # How far it is to the ends of the day, which lie a little outside; all that is farther out is squeezed between.
    left = tf.where(before > 0, _EDGE**2 / (_EDGE + before), inside + _EDGE)
    right = tf.where(after > 0, _EDGE**2 / (_EDGE + after), _DAY - inside + _EDGE)
    squeezed = 2 * tf.math.log(_EDGE / (_EDGE + before)) + 2 * tf.math.log(_EDGE / (_EDGE + after))
    log_left, log_right = tf.math.log(left), tf.math.log(right)
    log_slope = np.log(_DAY / 4) + np.log(_DAY + 2 * _EDGE) - log_left - log_right + squeezed
    return _DAY / 4 * (log_left - log_right), log_slope


def _from_line(line):
    """The inverse of `_to_line`."""
    left, right = ((_DAY + 2 * _EDGE) * tf.sigmoid(sign * line / (_DAY / 4)) for sign in (1, -1))
    before, after = (tf.maximum(_EDGE * (_EDGE - side) / side, 0) for side in (left, right))
    time = tf.where(left < right, left - _EDGE, _DAY + _EDGE - right)
    return tf.where(before > 0, -before, tf.where(after > 0, _DAY + after, time))
