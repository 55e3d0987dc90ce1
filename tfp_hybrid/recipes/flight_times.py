"""A bijector that maps clock times of flights, such as 1345, to minutes, and the arrival to a delay-like difference."""

import numpy as np
import tensorflow as tf

from tfp_hybrid.bijectors import FusedBijector

# Columns of `datasets.flight_tables.FEATURES`, which is not imported: saved models need this class wherever the package
# is imported, and `datasets` imports tensorflow_datasets.
_COLUMNS, _AIR, _ARRIVAL, _DEPARTURE = 8, 4, 6, 7

# Between the 60th minute and the next hour, hhmm numbers have a gap of 40 that no clock shows. It is squeezed, not cut
# out, so that the map stays invertible on all real numbers.
_SQUEEZE = 0.01
_HOUR = 60 + 40 * _SQUEEZE
_DAY = 24 * _HOUR


class FlightTimes(FusedBijector):
    """Maps the departure of a flight to minutes, and its arrival to minutes relative to departure and air time.

    With m(t) the minutes since midnight of the hhmm number t, an hour being 60.4, squeezed gap included,

        inverse:  DepTime -> m(DepTime)
                  ArrTime -> (m(ArrTime) - m(DepTime) - AirTime) mod one day, in [-1/2, 1/2) day

    the time that a flight spent on the ground plus what it gained from time zones. It does not jump at midnight, and
    neither does the delay. Both maps are shifts. The modulus maps a day of arrivals, hhmm in [1, 2401), onto one day;
    arrivals outside of it, which no clock shows, keep their distance from it. So

        log|det dz/dx| = 0        (log 0.01 for each time in a gap, such as 1270)

    Args:
      name: prefix of the names of the ops.
    """

    def __init__(self, name="flight_times"):
        super().__init__((_COLUMNS,), parameters=dict(locals()), name=name)

    def _inverse_and_log_det(self, x, training=False):
        air, arrival, departure = (x[..., i] for i in (_AIR, _ARRIVAL, _DEPARTURE))
        start, log_det = _minutes(departure)
        end, arrival_log_det = _minutes(arrival)
        # `end` is turned inside of the day that begins at hhmm = 1, by an amount that the other columns set.
        turned = _turn(end - 1, 1 - start - air) - _DAY / 2
        return self._with(x, turned, start), log_det + arrival_log_det

    def _forward_and_log_det(self, z, training=False):
        air, turned, start = (z[..., i] for i in (_AIR, _ARRIVAL, _DEPARTURE))
        end = _turn(turned + _DAY / 2, start + air - 1) + 1
        arrival, log_det = _hhmm(end)
        departure, departure_log_det = _hhmm(start)
        return self._with(z, arrival, departure), log_det + departure_log_det

    def _with(self, value, arrival, departure):
        columns = tf.unstack(value, axis=-1)
        columns[_ARRIVAL], columns[_DEPARTURE] = arrival, departure
        return tf.stack(columns, axis=-1)


def _minutes(hhmm):
    """Minutes of an hhmm number, and the log of the map's slope."""
    hour = tf.floor(hhmm / 100)
    rest = hhmm - 100 * hour
    gap = rest > 60
    minutes = _HOUR * hour + tf.where(gap, 60 + _SQUEEZE * (rest - 60), rest)
    return minutes, tf.where(gap, tf.constant(np.log(_SQUEEZE), hhmm.dtype), 0.0)


def _hhmm(minutes):
    """The inverse of `_minutes`."""
    hour = tf.floor(minutes / _HOUR)
    rest = minutes - _HOUR * hour
    gap = rest > 60
    hhmm = 100 * hour + tf.where(gap, 60 + (rest - 60) / _SQUEEZE, rest)
    return hhmm, tf.where(gap, tf.constant(-np.log(_SQUEEZE), minutes.dtype), 0.0)


def _turn(time, by):
    """`time` in [0, one day) moved by `by`, round the clock; other times stay."""
    inside = (time >= 0) & (time < _DAY)
    return tf.where(inside, tf.math.floormod(time + by + _DAY / 2, _DAY), time)
