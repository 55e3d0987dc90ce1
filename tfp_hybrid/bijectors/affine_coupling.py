"""Affine and additive couplings, for vectors and images."""

import functools

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import networks
from tfp_hybrid.bijectors import base

MASKS = ("channel", "checkerboard")


class AffineCoupling(base.FusedBijector):
    """One part of x passes through and sets the shift t and log-scale s of the other part.

        z_a = x_a
        z_b = (x_b - t(x_a)) * exp(-s(x_a))         log|det dz/dx| = -sum_b s(x_a)_b

    The log-scale is bounded, `s = B tanh(raw / B)`; the additive coupling has s = 0. One conditioner
    network computes t and s together, and is evaluated once for the value and the log-det.

    Args:
      event_shape: `(d,)` with d >= 2, or `(H, W, C)`.
      mask: what passes through: "channel", one half of the last axis (features of a vector, channels of an
        image); or "checkerboard", every other pixel of an image, as in RealNVP.
      swap: take the other half.
      additive: no scale, as in NICE; volume-preserving.
      conditioner: a function `(input_shape, units) -> keras layer` from the part that passes through (with
        the checkerboard: the whole image, with the other pixels at zero) to the raw parameters on the last
        axis. By default `networks.MLP` for vectors and `networks.ConvNet` for images.
        A built Keras layer is taken as it is.
      log_scale_bound: B, the bound on |s|.
      dtype: of the values; the conditioner has it too, or the global mixed precision policy.
      name: prefix of the names of the ops.

    Raises:
      ValueError: for an event that cannot be split, an unknown mask, or a conditioner whose output does not
        have the size that is needed.

    References:
      Dinh, Krueger and Bengio 2015, "NICE"; Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using
      Real NVP", eq. 4-8.
    """

    def __init__(
        self,
        event_shape,
        mask="channel",
        swap=False,
        additive=False,
        conditioner=None,
        log_scale_bound=2.0,
        dtype="float32",
        name="affine_coupling",
    ):
        parameters = dict(locals())
        super().__init__(event_shape, parameters=parameters, name=name)
        shape = tuple(self._event_shape)
        _check_event_shape(shape, mask)
        if not log_scale_bound > 0:
            raise ValueError(f"AffineCoupling: `log_scale_bound` is {log_scale_bound}; wanted a positive number.")
        self.mask, self.swap, self.additive = mask, swap, additive
        self.log_scale_bound = log_scale_bound
        if mask == "checkerboard":
            passing, transformed = shape, shape[-1]
            rows, columns = np.indices(shape[:2])
            self._pass_mask = ((rows + columns + swap) % 2 == 0).astype(dtype)[..., np.newaxis]
        else:
            first = shape[-1] // 2
            self._sizes = (first, shape[-1] - first)
            passing, transformed = (*shape[:-1], self._sizes[swap]), self._sizes[not swap]
        units = transformed if additive else 2 * transformed
        if conditioner is None:
            network = networks.MLP if len(shape) == 1 else networks.ConvNet
            conditioner = functools.partial(network, dtype=networks.policy_for(dtype))
        self.conditioner = _built_conditioner(conditioner, passing, units)
        self._own(self.conditioner.variables)
        self._parameters["conditioner"] = self.conditioner

    def _forward_and_log_det(self, z, training=False):
        passing, transformed = self._split(z)
        raw = self._raw_parameters(passing, training)
        return self._join(passing, self._transformed_forward(transformed, raw)), -self._log_det(raw)

    def _inverse_and_log_det(self, x, training=False):
        passing, transformed = self._split(x)
        transformed, log_det = self._transformed_inverse(transformed, self._raw_parameters(passing, training))
        return self._join(passing, transformed), log_det

    def _pull_back(self, z, dz, dlog_det, training=False):
        """With one evaluation of the conditioner, since what it sees is the same in x and z."""
        passing, transformed = self._split(z)
        dpassing, dtransformed = self._split(dz)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            weights = self._watch(tape, z)
            raw = self._raw_parameters(self._split(z)[0], training)
        transformed = self._transformed_forward(transformed, raw)
        with tf.GradientTape(watch_accessed_variables=False) as outer_tape:
            outer_tape.watch((transformed, raw))
            outputs = self._transformed_inverse(transformed, raw)
        dtransformed, draw = outer_tape.gradient(outputs, (transformed, raw), (dtransformed, dlog_det))
        none = tf.UnconnectedGradients.ZERO  # of a conditioner that ignores its input
        through_conditioner, dweights = tape.gradient(raw, (z, weights), draw, none)
        dx = self._join(dpassing, dtransformed) + through_conditioner
        return self._join(passing, transformed), dx, dweights

    def _raw_parameters(self, passing, training):
        rank = self._event_shape.rank
        batch_shape = tf.shape(passing)[: tf.rank(passing) - rank]
        flat = tf.reshape(passing, tf.concat([[-1], tf.shape(passing)[-rank:]], 0))
        flat.set_shape([None, *passing.shape[-rank:]])
        raw = tf.cast(self.conditioner(flat, training=training), passing.dtype)
        return tf.reshape(raw, tf.concat([batch_shape, tf.shape(raw)[1:]], 0))

    def _shift_and_log_scale(self, raw):
        shift, raw_log_scale = _halves(raw)
        log_scale = self.log_scale_bound * tf.tanh(raw_log_scale / self.log_scale_bound)
        return self._masked(shift), self._masked(log_scale)

    def _transformed_forward(self, transformed, raw):
        if self.additive:
            return transformed + self._masked(raw)
        shift, log_scale = self._shift_and_log_scale(raw)
        return transformed * tf.exp(log_scale) + shift

    def _transformed_inverse(self, transformed, raw):
        if self.additive:
            return transformed - self._masked(raw), self._log_det(raw)
        if self.mask == "channel":
            return _scaled(transformed, raw, self.log_scale_bound, self._event_shape.rank)
        shift, log_scale = self._shift_and_log_scale(raw)
        return (transformed - shift) * tf.exp(-log_scale), self._log_det(raw)

    def _log_det(self, raw):
        """log|det dz/dx|."""
        if self.additive:
            return self._same_log_det(tf.zeros((), raw.dtype), raw)
        log_scale = self._shift_and_log_scale(raw)[1]
        return -tf.reduce_sum(log_scale, axis=list(range(-self._event_shape.rank, 0)))

    def _masked(self, parameter):
        return parameter * (1 - self._pass_mask) if self.mask == "checkerboard" else parameter

    def _split(self, value):
        if self.mask == "checkerboard":
            return value * self._pass_mask, value * (1 - self._pass_mask)
        parts = _split(value, self._sizes[0])
        return parts[self.swap], parts[not self.swap]

    def _join(self, passing, transformed):
        if self.mask == "checkerboard":
            return passing + transformed
        parts = (transformed, passing) if self.swap else (passing, transformed)
        return tf.concat(parts, axis=-1)


def _scaled(x, raw, bound, event_ndims):
    """`(x - t) exp(-s)` and `-sum s`, with `t, raw_s = split(raw)` and `s = bound tanh(raw_s / bound)`.

    The gradient is written out, in half of the operations that autodiff would use.
    """

    @tf.custom_gradient
    def function(x, raw):
        shift, raw_log_scale = _halves(raw)
        bounded = tf.tanh(raw_log_scale / bound)
        factor = tf.exp(-bound * bounded)
        z = (x - shift) * factor

        def gradient(dz, dlog_det):
            dx = dz * factor
            dlog_scale = -dz * z - tf.reshape(dlog_det, tf.concat([tf.shape(dlog_det), [1] * event_ndims], 0))
            return dx, tf.concat([-dx, dlog_scale * (1 - tf.square(bounded))], axis=-1)

        return (z, -bound * tf.reduce_sum(bounded, axis=list(range(-event_ndims, 0)))), gradient

    return function(x, raw)


def _halves(value):
    return _split(value, value.shape[-1] // 2)


def _split(value, first):
    """The `first` channels and the others: as `tf.split`, in less time for the few channels of an image."""

    @tf.custom_gradient
    def function(value):
        rows, outer = tf.reshape(value, [-1, value.shape[-1]]), tf.shape(value)[:-1]
        columns = rows[:, :first], rows[:, first:]
        parts = (tf.reshape(part, tf.concat([outer, part.shape[-1:]], 0)) for part in columns)
        return tuple(parts), lambda *gradients: tf.concat(gradients, axis=-1)

    return function(value)


def _check_event_shape(shape, mask):
    if mask not in MASKS:
        raise ValueError(f"AffineCoupling: `mask` is {mask!r}; wanted one of {MASKS}.")
    if len(shape) not in (1, 3):
        raise ValueError(f"AffineCoupling: `event_shape` is {shape}; wanted a vector's (d,) or an image's (H, W, C).")
    if mask == "checkerboard":
        if len(shape) != 3 or shape[0] * shape[1] < 2:
            raise ValueError(
                f"AffineCoupling: `event_shape` is {shape}; the checkerboard mask wants an image (H, W, C) "
                "of at least two pixels."
            )
    elif shape[-1] < 2:
        raise ValueError(
            f"AffineCoupling: `event_shape` is {shape}; a coupling passes one part of the last axis through "
            "and transforms the other, so it wants at least 2 there. For one-dimensional data use a scalar "
            "bijector (ActNorm, a TFP spline), for one-channel images a Squeeze first or "
            "mask='checkerboard'."
        )


def _built_conditioner(conditioner, input_shape, units):
    if not isinstance(conditioner, keras.layers.Layer):
        if not callable(conditioner):
            raise ValueError(
                f"AffineCoupling: `conditioner` is {conditioner!r}; wanted a function (input_shape, units) -> keras "
                "layer."
            )
        conditioner = conditioner(input_shape, units)
    output_shape = getattr(conditioner, "output_shape", None)  # known if it is functional; else one call builds it
    output_shape = output_shape or tuple(conditioner(tf.zeros((1, *input_shape))).shape)
    if output_shape[1:] != (*input_shape[:-1], units):
        raise ValueError(
            f"AffineCoupling: `conditioner` maps {input_shape} to {output_shape[1:]}; wanted "
            f"{(*input_shape[:-1], units)}."
        )
    return conditioner
