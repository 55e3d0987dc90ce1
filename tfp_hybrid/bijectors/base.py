"""The base of our bijectors, and density evaluation in one pass through any bijector.

How to write a bijector: subclass `FusedBijector`, pass `parameters=dict(locals())` to its constructor (it
makes the bijector copyable and savable), and write two methods, each of which evaluates its network once:

    _forward_and_log_det(z, training) -> x, log|det dx/dz|
    _inverse_and_log_det(x, training) -> z, log|det dz/dx|

`forward` maps latent z to data x, `inverse` is the f of Nalisnick et al. 2019. Log-determinants have one
entry an event (the batch shape). TFP's own methods are derived from the two.
"""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

# The two below are internal to TFP: the cache that its own fused bijector (FFJORD) is built on, and the
# classes behind tfb.Chain and tfb.Invert when they hold bijectors like ours.
from tensorflow_probability.python.bijectors import chain as tfp_chain
from tensorflow_probability.python.bijectors import invert as tfp_invert
from tensorflow_probability.python.internal import cache_util

from tfp_hybrid import registry

tfb = tfp.bijectors


class FusedBijector(tfb.Bijector):
    """A `tfb.Bijector` whose value and log-determinant come from one evaluation.

    Args:
      event_shape: shape of one data point x, on the `forward` output side. The batch may have any rank.
      latent_shape: shape of one latent z; `event_shape` if None.
      parameters: the constructor's `locals()`.
      name: prefix of the names of the ops.
    """

    _cache = cache_util.BijectorCacheWithGreedyAttrs(
        forward_name="_forward_and_attributes", inverse_name="_inverse_and_attributes"
    )

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.register(cls)

    def __init__(self, event_shape, latent_shape=None, *, parameters, name):
        self._keras_weights: list[keras.Variable] = []
        self._variables: list[tf.Variable] = []  # what TFP sees of them: their storage
        self._event_shape = tf.TensorShape(event_shape)
        self._latent_shape = tf.TensorShape(event_shape if latent_shape is None else latent_shape)
        super().__init__(
            forward_min_event_ndims=self._latent_shape.rank,
            inverse_min_event_ndims=self._event_shape.rank,
            parameters=parameters,
            name=name,
        )

    # Bijectors with weights are equal only to themselves; TFP would compare their parameters.
    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other

    # False where `inverse(forward(z))` is not z: then TFP's cache must not say that it is.
    is_exact = True

    def _call_forward(self, x, name, **kwargs):
        x = super()._call_forward(x, name, **kwargs)
        return x if self.is_exact else tf.identity(x)

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _add_weight(self, value, name, trainable=True) -> keras.Variable:
        """A weight of this bijector: a Keras variable whose storage TFP sees."""
        value = tf.convert_to_tensor(value)
        weight = keras.Variable(value, dtype=value.dtype.name, trainable=trainable, autocast=False, name=name)
        self._own([weight])
        return weight

    def _own(self, weights):
        self._keras_weights += weights
        self._variables += [weight.value for weight in weights]

    def keras_weights(self) -> list[keras.Variable]:
        """Every weight, of the bijectors inside and their conditioners too, in an order that the structure sets."""
        return _weights_of((self, *self.submodules))

    @property
    def event_shape(self) -> tf.TensorShape:
        """Shape of one data point x."""
        return self._event_shape

    @property
    def latent_shape(self) -> tf.TensorShape:
        """Shape of one latent z."""
        return self._latent_shape

    def copy(self, **overrides):
        """Another bijector of these settings, and of these weights' values if the overrides leave their shapes."""
        copied = super().copy(**overrides)
        mine, its = self.keras_weights(), copied.keras_weights()
        if [(weight.shape, weight.dtype) for weight in mine] == [(weight.shape, weight.dtype) for weight in its]:
            for weight, value in zip(its, mine, strict=True):
                weight.assign(value)
        return copied

    def forward_and_log_det(self, z, event_ndims=None, training=False):
        """`x = forward(z)` and `log|det dx/dz|`, in one evaluation.

        Args:
          z: `batch_shape + latent_shape`.
          event_ndims: rank of an event, if larger than the latent's; the log-det is summed over it.
          training: passed to the conditioners (dropout) and the dequantization (fresh noise).

        Returns:
          x of `batch_shape + event_shape`, and the log-det in nats, `batch_shape`.

        Raises:
          ValueError: if z does not end in `latent_shape`.
        """
        return forward_and_log_det(self, z, event_ndims, training)

    def inverse_and_log_det(self, x, event_ndims=None, training=False):
        """`z = inverse(x)` and `log|det dz/dx|`, in one evaluation.

        Args:
          x: `batch_shape + event_shape`.
          event_ndims: rank of an event, if larger than x's; the log-det is summed over it.
          training: passed to the conditioners (dropout) and the dequantization (fresh noise).

        Returns:
          z of `batch_shape + latent_shape`, and the log-det in nats, `batch_shape`.

        Raises:
          ValueError: if x does not end in `event_shape`.
        """
        return inverse_and_log_det(self, x, event_ndims, training)

    def adapt(self, x):
        """Sets the data-dependent weights from a batch x; returns `inverse(x)` after it."""
        return self._checked_inverse_and_log_det(x)[0]

    def is_adapted(self) -> bool:
        """False while a data-dependent weight still has its initial value."""
        return True

    def _forward_and_log_det(self, z, training=False):
        raise NotImplementedError(f"{type(self).__name__}._forward_and_log_det")

    def _inverse_and_log_det(self, x, training=False):
        raise NotImplementedError(f"{type(self).__name__}._inverse_and_log_det")

    def _pull_back(self, z, dz, dlog_det, training=False):
        """The gradient of `inverse`, from its output: x is computed from z, and was not stored.

        Args:
          z: `inverse(x)`.
          dz: gradient with respect to z.
          dlog_det: gradient with respect to the log-det.
          training: as `inverse` had it.

        Returns:
          x, the gradient with respect to x, and a dictionary from the `id` of a weight to its gradient.
        """
        x = tf.stop_gradient(self._forward_and_log_det(z, training)[0])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            weights = self._watch(tape, x)
            outputs = self._inverse_and_log_det(x, training)
        dx, dweights = tape.gradient(outputs, (x, weights), (dz, dlog_det))
        return x, dx, dweights

    def _watch(self, tape, value):
        return _watch(tape, value, self.keras_weights())

    def _same_log_det(self, log_det, value):
        """`log_det`, a scalar, for every event in `value`; for maps whose Jacobian does not depend on it."""
        return tf.fill(tf.shape(value)[: tf.rank(value) - self._event_shape.rank], log_det)

    def _checked_forward_and_log_det(self, z, training=False):
        return self._forward_and_log_det(self._check(z, self._latent_shape, "z"), training)

    def _checked_inverse_and_log_det(self, x, training=False):
        return self._inverse_and_log_det(self._check(x, self._event_shape, "x"), training)

    def _check(self, value, event_shape, argument):
        value = tf.convert_to_tensor(value)
        self._batch_shape_of(value.shape, event_shape, argument)
        return value

    def _batch_shape_of(self, shape, event_shape, argument):
        split = -event_shape.rank or None
        if event_shape.rank and not shape[split:].is_compatible_with(event_shape):
            raise ValueError(
                f"{self.name}: {argument} has shape {tuple(shape)}; wanted a shape that ends in {tuple(event_shape)}."
            )
        return shape[:split]

    def _forward_and_attributes(self, z, training=False):
        x, log_det = self._checked_forward_and_log_det(z, training)
        return x, {"ildj": -log_det}

    def _inverse_and_attributes(self, x, training=False):
        z, log_det = self._checked_inverse_and_log_det(x, training)
        return z, {"ildj": log_det}

    def _forward_log_det_jacobian(self, z, training=False):
        return self._checked_forward_and_log_det(z, training)[1]

    def _inverse_log_det_jacobian(self, x, training=False):
        return self._checked_inverse_and_log_det(x, training)[1]

    def _forward_event_shape(self, latent_shape):
        return self._batch_shape_of(latent_shape, self._latent_shape, "z").concatenate(self._event_shape)

    def _inverse_event_shape(self, event_shape):
        return self._batch_shape_of(event_shape, self._event_shape, "x").concatenate(self._latent_shape)

    def _forward_event_shape_tensor(self, latent_shape):
        return tf.concat([latent_shape[: -self._latent_shape.rank or None], self._event_shape], 0)

    def _inverse_event_shape_tensor(self, event_shape):
        return tf.concat([event_shape[: -self._event_shape.rank or None], self._latent_shape], 0)


def inverse_and_log_det(bijector, x, event_ndims=None, training=False):
    """`z = bijector.inverse(x)` and `log|det dz/dx|`, each network evaluated once where the bijector is ours.

    Goes through `tfb.Chain` and `tfb.Invert`; any other stock bijector is asked for both, the usual way.

    Args:
      bijector: any `tfb.Bijector`.
      x: `batch_shape + event_shape`.
      event_ndims: rank of the event; `bijector.inverse_min_event_ndims` if None.
      training: passed to our bijectors.

    Returns:
      z, and the log-det in nats (broadcastable to the batch shape).
    """
    if isinstance(bijector, tfp_invert._Invert):
        return forward_and_log_det(bijector.bijector, x, event_ndims, training)
    if event_ndims is None:
        event_ndims = bijector.inverse_min_event_ndims
    if isinstance(bijector, FusedBijector):
        z, log_det = bijector._checked_inverse_and_log_det(x, training)
        return z, _sum_rightmost(log_det, event_ndims - bijector.inverse_min_event_ndims)
    if isinstance(bijector, tfp_chain._Chain):
        return chain_inverse_and_log_det(bijector.bijectors, x, event_ndims, training)
    x = tf.identity(x)  # TFP would answer from its cache, also after the weights have changed
    return bijector.inverse(x), bijector.inverse_log_det_jacobian(x, event_ndims=event_ndims)


def forward_and_log_det(bijector, z, event_ndims=None, training=False):
    """`x = bijector.forward(z)` and `log|det dx/dz|`; see `inverse_and_log_det`."""
    if isinstance(bijector, tfp_invert._Invert):
        return inverse_and_log_det(bijector.bijector, z, event_ndims, training)
    if event_ndims is None:
        event_ndims = bijector.forward_min_event_ndims
    if isinstance(bijector, FusedBijector):
        x, log_det = bijector._checked_forward_and_log_det(z, training)
        return x, _sum_rightmost(log_det, event_ndims - bijector.forward_min_event_ndims)
    if isinstance(bijector, tfp_chain._Chain):
        return chain_forward_and_log_det(bijector.bijectors, z, event_ndims, training)
    z = tf.identity(z)
    return bijector.forward(z), bijector.forward_log_det_jacobian(z, event_ndims=event_ndims)


def chain_inverse_and_log_det(bijectors, x, event_ndims, training=False):
    """Inverts `bijectors`, first to last, and sums their log-dets."""
    total = 0.0
    for bijector in bijectors:
        next_ndims = bijector.inverse_event_ndims(event_ndims)
        x, log_det = inverse_and_log_det(bijector, x, event_ndims, training)
        total, event_ndims = total + log_det, next_ndims
    return x, total


def chain_forward_and_log_det(bijectors, z, event_ndims, training=False):
    """Applies `bijectors`, last to first, and sums their log-dets."""
    total = 0.0
    for bijector in reversed(bijectors):
        next_ndims = bijector.forward_event_ndims(event_ndims)
        z, log_det = forward_and_log_det(bijector, z, event_ndims, training)
        total, event_ndims = total + log_det, next_ndims
    return z, total


def pull_back(bijector, z, dz, dlog_det, event_ndims, training=False):
    """`FusedBijector._pull_back` for any bijector, at a z whose event has rank `event_ndims`."""
    if isinstance(bijector, FusedBijector):
        extra = event_ndims - bijector.forward_min_event_ndims
        if extra:
            dlog_det = tf.reshape(dlog_det, tf.concat([tf.shape(dlog_det), [1] * extra], 0))
            dlog_det = tf.broadcast_to(dlog_det, tf.shape(z)[: -bijector.forward_min_event_ndims or None])
        return bijector._pull_back(z, dz, dlog_det, training)
    x = tf.stop_gradient(bijector.forward(z))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        weights = _watch(tape, x, _weights_of(bijector.submodules))  # of ours inside `tfb.Chain` or `tfb.Invert`
        z, log_det = inverse_and_log_det(bijector, x, bijector.forward_event_ndims(event_ndims), training)
        log_det += tf.zeros_like(dlog_det)  # that of a stock bijector may be one for all events
    return x, *tape.gradient((z, log_det), (x, weights), (dz, dlog_det))


def _weights_of(parts):
    """The weights of those parts that are ours, each once: couplings may share a network."""
    ours = (part for part in parts if isinstance(part, FusedBijector))
    return list({id(weight): weight for part in ours for weight in part._keras_weights}.values())


def _watch(tape, value, weights):
    values = {id(weight): weight.value for weight in weights if tf.as_dtype(weight.dtype).is_floating}
    tape.watch([value, *values.values()])
    return values


def adapt(bijector, x):
    """Sets the data-dependent weights of every bijector of ours inside `bijector`; returns `inverse(x)`."""
    if isinstance(bijector, FusedBijector):
        return bijector.adapt(x)
    if isinstance(bijector, tfp_chain._Chain):
        for part in bijector.bijectors:
            x = adapt(part, x)
        return x
    return bijector.inverse(x)


def is_adapted(bijector) -> bool:
    """False if a bijector of ours inside `bijector` waits for `adapt`."""
    if isinstance(bijector, FusedBijector):
        return bijector.is_adapted()
    if isinstance(bijector, tfp_chain._Chain):
        return all(map(is_adapted, bijector.bijectors))
    return True


def _sum_rightmost(log_det, ndims):
    return tf.reduce_sum(log_det, axis=list(range(-ndims, 0))) if ndims else log_det
