"""`Coupling`: a mask, a conditioner and a transformer."""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from tfp_hybrid import _compat, networks
from tfp_hybrid.bijectors import conditions
from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.masks import make_mask
from tfp_hybrid.bijectors.transformers import Transformer
from tfp_hybrid.bijectors.weights import watch


class Coupling(FusedBijector):
    """One part of x passes through and sets the parameters of a scalar bijector for each entry of the other part.

        z_a = x_a
        z_b = transformer.inverse(x_b; conditioner(x_a))

    The conditioner is evaluated once for the value and the log-det. `AffineCoupling` and `SplineCoupling` are couplings
    with fixed transformers.

    Args:
      event_shape: `(d,)` with d >= 2, or `(H, W, C)`.
      transformer: A `transformers.Transformer`.
      mask: The part that passes through: "channel" for one half of the last axis (features of a vector, channels of
        an image), or "checkerboard" for every other pixel of an image, as in RealNVP.
      swap: Whether the other half passes through.
      conditioner: A function `(input_shape, units) -> keras layer`, whose layer maps the part that passes through (with
        the checkerboard, the whole image with the other pixels set to zero) to the raw parameters on the last axis. By
        default, `networks.MLP` for vectors and `networks.ConvNet` for images. A built Keras layer is used as it is. For
        vectors on a map, `networks.PositionMLP`; see `Positionwise`.
      dtype: The dtype of the values, and of the default conditioner unless the global policy is mixed precision.
      name: The prefix of the names of the ops.
      condition_shape: The shape of the condition c, for a coupling of p(x | c): `(k,)`, or for images also a map
        `(H, W, k)`, with sides that are those of the image, or the same multiple of them. The conditioner gets it on
        the last axis of its input, after the part that passes through.
      parameters: The `locals()` of a subclass's constructor.

    Raises:
      ValueError: If the event cannot be split, if `mask` is unknown, if `transformer` is not a `Transformer`, or if the
        output of the conditioner does not have the required shape.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP", section 3.2.

    Example:

    >>> coupling = bijectors.Coupling((4,), bijectors.transformers.Affine(log_scale_bound=1.0))
    >>> z, log_det = coupling.inverse_and_log_det(tf.ones((3, 4)))
    """

    def __init__(
        self,
        event_shape: tuple[int, ...],
        transformer: Transformer,
        mask: str = "channel",
        swap: bool = False,
        conditioner: Callable | keras.layers.Layer | None = None,
        dtype: str = "float32",
        name: str = "coupling",
        condition_shape: int | tuple[int, ...] | None = None,
        *,
        parameters: dict | None = None,
    ):
        if parameters is None and type(self) is not Coupling:
            raise ValueError(f"{type(self).__name__}: pass `parameters=dict(locals())` to the constructor of Coupling.")
        parameters = parameters or dict(locals())
        owner = type(self).__name__
        condition_shape = conditions.checked_shape(condition_shape, event_shape, owner)
        super().__init__(event_shape, condition_shape=condition_shape, parameters=parameters, name=name)
        shape = tuple(self.event_shape)
        if not isinstance(transformer, Transformer):
            raise ValueError(
                f"{owner}: `transformer` is {transformer!r}; wanted a `bijectors.transformers.Transformer`."
            )
        self.transformer, self.mask, self.swap = transformer, mask, swap
        self._mask = make_mask(mask, shape, swap, dtype, owner)
        self._seen_shape = conditions.appended_shape(self._mask.passing_shape, condition_shape, owner)
        if conditioner is None:
            network = networks.MLP if len(shape) == 1 else networks.ConvNet
            conditioner = functools.partial(network, dtype=networks.policy_for(dtype))
        units = transformer.num_parameters * self._mask.num_transformed
        self.conditioner = self.add_network(_built_conditioner(conditioner, self._seen_shape, units, owner))
        if "conditioner" in parameters:
            _compat.set_parameter(self, "conditioner", self.conditioner)

    def _forward_and_log_det(self, z, training=False, condition=None):
        passing, transformed = self._mask.split(z)
        raw = self._raw_parameters(passing, training, condition)
        transformed, log_det = self.transformer.forward(transformed, raw, self.event_shape.rank)
        return self._mask.join(passing, transformed), log_det

    def _inverse_and_log_det(self, x, training=False, condition=None):
        passing, transformed = self._mask.split(x)
        raw = self._raw_parameters(passing, training, condition)
        transformed, log_det = self.transformer.inverse(transformed, raw, self.event_shape.rank)
        return self._mask.join(passing, transformed), log_det

    def pull_back(self, z, dz, dlog_det, training: bool = False, condition=None) -> tuple:
        """As in the base class, with one evaluation of the conditioner, whose input is the same in x and z."""
        event_ndims, given = self.event_shape.rank, () if condition is None else (condition,)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(given)
            weights = watch(tape, z, self.keras_weights())
            passing, transformed = self._mask.split(z)
            raw = self._raw_parameters(passing, training, condition)
        transformed = self.transformer.forward(transformed, raw, event_ndims)[0]
        with tf.GradientTape(watch_accessed_variables=False) as outer_tape:
            outer_tape.watch((transformed, raw))
            outputs = self.transformer.inverse(transformed, raw, event_ndims)
        dpassing, dtransformed = self._mask.split(dz)
        dtransformed, draw = outer_tape.gradient(outputs, (transformed, raw), (dtransformed, dlog_det))
        dx = self._mask.join(dpassing, dtransformed)
        through_conditioner, dgiven, dweights = tape.gradient(raw, (z, given, weights), draw)
        if through_conditioner is not None:  # it is None if the conditioner ignores its input
            dx += through_conditioner
        return self._mask.join(passing, transformed), dx, dgiven[0] if given else None, dweights

    def _raw_parameters(self, passing, training, condition):
        seen = conditions.append(passing, condition, self.event_shape.rank)
        shape = _input_shape(self.conditioner, self._seen_shape)
        if not seen.shape[-len(shape) :].is_compatible_with(shape):
            raise ValueError(
                f"{self.name}: the conditioner is for a map of vectors, {shape}, but what passes through has the shape "
                f"{tuple(passing.shape)}; wanted a flow of vectors in a `Positionwise` of this map."
            )
        flat = tf.reshape(seen, (-1, *shape))
        raw = tf.cast(self.conditioner(flat, training=training), passing.dtype)
        raw = tf.reshape(raw, tf.concat([tf.shape(passing)[:-1], raw.shape[-1:]], 0))
        return self._mask.of_transformed(raw)


def _built_conditioner(conditioner, input_shape, units, owner):
    if not isinstance(conditioner, keras.layers.Layer):
        if not callable(conditioner):
            raise ValueError(
                f"{owner}: `conditioner` is {conditioner!r}; wanted a function (input_shape, units) -> keras layer."
            )
        conditioner = conditioner(input_shape, units)
    input_shape = _input_shape(conditioner, input_shape)
    output_shape = getattr(conditioner, "output_shape", None)  # known for functional models; one call builds others
    output_shape = output_shape or tuple(conditioner(tf.zeros((1, *input_shape))).shape)
    if output_shape[1:] != (*input_shape[:-1], units):
        raise ValueError(
            f"{owner}: `conditioner` maps {input_shape} to {output_shape[1:]}; wanted {(*input_shape[:-1], units)}."
        )
    return conditioner


def _input_shape(conditioner, passing_shape):
    """Returns the shape of one input of a conditioner; one that depends on positions takes a whole map of vectors."""
    shape = getattr(conditioner, "input_shape", None) or (None, *passing_shape)
    is_map = len(shape) == 4 and len(passing_shape) == 1 and shape[-1] == passing_shape[0]
    return shape[1:] if is_map else passing_shape
