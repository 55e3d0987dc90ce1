"""`FusedBijector`, the base class of our bijectors."""

import tensorflow as tf

from tfp_hybrid import _compat, registry
from tfp_hybrid.bijectors import description
from tfp_hybrid.bijectors.weights import WeightHolder, watch


class FusedBijector(WeightHolder, _compat.CachedBijector):
    """A `tfb.Bijector` whose value and log-determinant come from one evaluation.

    To write a bijector, subclass this class, pass `parameters=dict(locals())` to its constructor (so that the bijector
    can be copied and saved), and write two methods, each of which evaluates its networks once:

        _forward_and_log_det(z, training) -> x, log|det dx/dz|
        _inverse_and_log_det(x, training) -> z, log|det dz/dx|

    `forward` maps latents z to data x, and `inverse` is the f of Nalisnick et al. 2019. Log-determinants have one entry
    for each event. Both methods receive tensors whose shapes have been checked; TFP's own methods are derived from
    them. `add_weight` creates weights, and `add_network` registers Keras layers.

    A bijector of p(x | c) passes a `condition_shape` to the constructor; its two methods then have the condition c,
    `batch_shape + condition_shape`, as a third argument. Callers pass it to TFP's methods by its name, `condition=c`.

    Args:
      event_shape: The shape of one data point x, the output of `forward`. The batch may have any rank.
      latent_shape: The shape of one latent z; `event_shape` if None.
      condition_shape: The shape of the condition of one data point; None if there is none.
      parameters: The constructor's `locals()`.
      name: The prefix of the names of the ops.

    Example:

    >>> class Scale(bijectors.FusedBijector):
    ...     def __init__(self, event_shape, name="scale"):
    ...         super().__init__(event_shape, parameters=dict(locals()), name=name)
    ...         self.log_scale = self.add_weight(tf.zeros(()), "log_scale")
    ...
    ...     def _forward_and_log_det(self, z, training=False):
    ...         log_det = self.event_shape.num_elements() * self.log_scale
    ...         return z * tf.exp(self.log_scale), self.same_log_det(log_det, z)
    ...
    ...     def _inverse_and_log_det(self, x, training=False):
    ...         log_det = -self.event_shape.num_elements() * self.log_scale
    ...         return x * tf.exp(-self.log_scale), self.same_log_det(log_det, x)
    >>> p_x = flow_distribution(Scale((3,)))
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        registry.register(cls)

    def __init__(
        self,
        event_shape: tuple[int, ...],
        latent_shape: tuple[int, ...] | None = None,
        condition_shape: tuple[int, ...] | None = None,
        *,
        parameters: dict,
        name: str,
    ):
        self._event_shape = tf.TensorShape(event_shape)
        self._latent_shape = tf.TensorShape(event_shape if latent_shape is None else latent_shape)
        self._condition_shape = None if condition_shape is None else tf.TensorShape(condition_shape)
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

    def __repr__(self):
        return description.one_line(self)

    __str__ = __repr__

    @property
    def event_shape(self) -> tf.TensorShape:
        """The shape of one data point x."""
        return self._event_shape

    @property
    def latent_shape(self) -> tf.TensorShape:
        """The shape of one latent z."""
        return self._latent_shape

    @property
    def condition_shape(self) -> tf.TensorShape | None:
        """The shape of the condition c of one data point, for a flow of p(x | c); None for one of p(x)."""
        return self._condition_shape

    def describe(self) -> list[description.FlowStep]:
        """Lists the steps of this flow, the data side first, with their shapes and numbers of weights."""
        variables = self.keras_weights()
        return [description.flow_step(self.name, self.event_shape, self.latent_shape, variables)]

    def copy(self, **overrides) -> "FusedBijector":
        """Returns a new bijector with the same settings, except for `overrides`.

        It has the same values of the weights, unless the overrides change their number, shapes or dtypes.
        """
        copied = super().copy(**overrides)
        mine, its = self.keras_weights(), copied.keras_weights()
        if [(weight.shape, weight.dtype) for weight in mine] == [(weight.shape, weight.dtype) for weight in its]:
            for weight, value in zip(its, mine, strict=True):
                weight.assign(value)
        return copied

    def forward_and_log_det(
        self, z, event_ndims: int | None = None, training: bool = False, condition=None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes `x = forward(z)` and `log|det dx/dz|` in one evaluation.

        Args:
          z: `batch_shape + latent_shape`.
          event_ndims: The rank of an event, if larger than that of z; the log-det is summed over it.
          training: Passed to the conditioners (dropout) and the dequantization (fresh noise).
          condition: c, broadcastable to `batch_shape + condition_shape`; None for a flow without one.

        Returns:
          x, `batch_shape + event_shape`, and the log-det in nats, `batch_shape`.

        Raises:
          ValueError: If the shape of z does not end in `latent_shape`, or if the condition is missing or of another
            shape.
        """
        z = self._checked(z, self._latent_shape, "z")
        x, log_det = self._forward_and_log_det(z, training, *self._given(condition, z, self._latent_shape))
        return x, sum_rightmost(log_det, 0 if event_ndims is None else event_ndims - self._latent_shape.rank)

    def inverse_and_log_det(
        self, x, event_ndims: int | None = None, training: bool = False, condition=None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Computes `z = inverse(x)` and `log|det dz/dx|` in one evaluation.

        Args:
          x: `batch_shape + event_shape`.
          event_ndims: The rank of an event, if larger than that of x; the log-det is summed over it.
          training: Passed to the conditioners (dropout) and the dequantization (fresh noise).
          condition: c, broadcastable to `batch_shape + condition_shape`; None for a flow without one.

        Returns:
          z, `batch_shape + latent_shape`, and the log-det in nats, `batch_shape`.

        Raises:
          ValueError: If the shape of x does not end in `event_shape`, or if the condition is missing or of another
            shape.
        """
        x = self._checked(x, self._event_shape, "x")
        z, log_det = self._inverse_and_log_det(x, training, *self._given(condition, x, self._event_shape))
        return z, sum_rightmost(log_det, 0 if event_ndims is None else event_ndims - self._event_shape.rank)

    def inverse_and_log_dets(
        self, x, event_ndims: int | None = None, training: bool = False, condition=None
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As `inverse_and_log_det`, with the log-det of each level, the data side first; most flows have one level."""
        x = self._checked(x, self._event_shape, "x")
        z, log_dets = self._inverse_and_log_dets(x, training, *self._given(condition, x, self._event_shape))
        more = 0 if event_ndims is None else event_ndims - self._event_shape.rank
        return z, [sum_rightmost(log_det, more) for log_det in log_dets]

    def level_sizes(self) -> list[int]:
        """Returns how many entries of z each level ends in; see `one_pass.level_sizes`."""
        return [self._latent_shape.num_elements()]

    def pull_back(self, z, dz, dlog_det, training: bool = False, condition=None) -> tuple:
        """Computes the gradient of `inverse_and_log_det` from its output alone; x is recomputed from z.

        Args:
          z: The output of `inverse_and_log_det`.
          dz: The gradient with respect to z.
          dlog_det: The gradient with respect to the log-det.
          training, condition: What `inverse_and_log_det` was called with.

        Returns:
          x, the gradient with respect to x, the one with respect to the condition, or None, and a list with a gradient
          or None for each of `keras_weights()`.
        """
        given = () if condition is None else (condition,)
        x = tf.stop_gradient(self._forward_and_log_det(z, training, *given)[0])
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(given)
            weights = watch(tape, x, self.keras_weights())
            outputs = self._inverse_and_log_det(x, training, *given)
        dx, dgiven, dweights = tape.gradient(outputs, (x, given, weights), (dz, dlog_det))
        return x, dx, dgiven[0] if given else None, dweights

    @property
    def rows_to_adapt(self) -> int:
        """How many rows `adapt` needs for good estimates; bijectors of many moments need more."""
        return 1024

    def adapt(self, x, condition=None) -> tf.Tensor:
        """Sets the data-dependent weights from a batch x, and returns `inverse(x)` with the new weights.

        A bijector without a condition may leave the second argument out.
        """
        return self.inverse_and_log_det(x, condition=condition)[0]

    def is_adapted(self) -> bool:
        """Returns False while a data-dependent weight still has its initial value."""
        return True

    def batch_shape_of(self, value) -> tf.Tensor:
        """Returns the batch shape of a value whose event has the rank of `event_shape`."""
        return tf.shape(value)[: tf.rank(value) - self._event_shape.rank]

    def same_log_det(self, log_det, value) -> tf.Tensor:
        """Repeats a scalar `log_det` for each event in `value`, for maps whose Jacobian does not depend on it."""
        return tf.fill(self.batch_shape_of(value), log_det)

    # Subclasses write these two methods; the condition is passed only if there is one.

    def _forward_and_log_det(self, z, training=False, condition=None):
        raise NotImplementedError(f"{type(self).__name__}._forward_and_log_det")

    def _inverse_and_log_det(self, x, training=False, condition=None):
        raise NotImplementedError(f"{type(self).__name__}._inverse_and_log_det")

    # Flows of several levels override this one.

    def _inverse_and_log_dets(self, x, training=False, *given):
        z, log_det = self._inverse_and_log_det(x, training, *given)
        return z, [log_det]

    # TFP derives its public methods from these.

    @classmethod
    def _parameter_properties(cls, dtype):
        return {}

    def _forward_log_det_jacobian(self, z, training=False, condition=None):
        return self.forward_and_log_det(z, training=training, condition=condition)[1]

    def _inverse_log_det_jacobian(self, x, training=False, condition=None):
        return self.inverse_and_log_det(x, training=training, condition=condition)[1]

    def _forward_event_shape(self, latent_shape):
        return self._split_shape(latent_shape, self._latent_shape, "z").concatenate(self._event_shape)

    def _inverse_event_shape(self, event_shape):
        return self._split_shape(event_shape, self._event_shape, "x").concatenate(self._latent_shape)

    def _forward_event_shape_tensor(self, latent_shape):
        return tf.concat([latent_shape[: -self._latent_shape.rank or None], self._event_shape], 0)

    def _inverse_event_shape_tensor(self, event_shape):
        return tf.concat([event_shape[: -self._event_shape.rank or None], self._latent_shape], 0)

    def _checked(self, value, event_shape, argument):
        value = tf.convert_to_tensor(value)
        self._split_shape(value.shape, event_shape, argument)
        return value

    def _given(self, condition, value, event_shape) -> tuple:
        """The condition for a checked value as a tuple, with the batch shape of the value; empty without one."""
        wanted = self._condition_shape
        if wanted is None:
            if condition is not None:
                raise ValueError(f"{self.name}: `condition` is given; wanted None, since this flow takes none.")
            return ()
        if condition is None:
            raise ValueError(
                f"{self.name}: `condition` is missing; wanted a tensor that ends in {tuple(wanted)}, such as "
                "flow.inverse(x, condition=c) or p_x.log_prob(x, bijector_kwargs={'condition': c})."
            )
        condition = tf.convert_to_tensor(condition)
        if not condition.dtype.is_floating:
            condition = tf.cast(condition, tf.float32)
        batch = condition.shape[: -wanted.rank or None]
        if condition.shape.rank is None or not condition.shape[len(batch) :].is_compatible_with(wanted):
            raise ValueError(
                f"{self.name}: `condition` has shape {tuple(condition.shape)}; wanted a shape that ends in "
                f"{tuple(wanted)}."
            )
        of_value = value.shape[: -event_shape.rank or None]
        if of_value.rank is not None:
            pairs = list(zip(reversed(batch.as_list()), reversed(of_value.as_list()), strict=False))
            if batch.rank > of_value.rank or any(
                mine not in (1, its) and None not in (mine, its) for mine, its in pairs
            ):
                raise ValueError(
                    f"{self.name}: `condition` has shape {tuple(condition.shape)}; wanted one that can be broadcast to "
                    f"{(*of_value, *wanted)}, for a value of shape {tuple(value.shape)}."
                )
            if batch.rank == of_value.rank and all(mine != 1 or its == 1 for mine, its in pairs):
                return (condition,)
        shape = tf.concat([tf.shape(value)[: tf.rank(value) - event_shape.rank], wanted], 0)
        return (tf.broadcast_to(condition, shape),)

    def _split_shape(self, shape, event_shape, argument):
        split = -event_shape.rank or None
        if event_shape.rank and not shape[split:].is_compatible_with(event_shape):
            raise ValueError(
                f"{self.name}: {argument} has shape {tuple(shape)}; wanted a shape that ends in {tuple(event_shape)}."
            )
        return shape[:split]


def sum_rightmost(values, ndims: int) -> tf.Tensor:
    """Sums over the last `ndims` axes."""
    return tf.reduce_sum(values, axis=list(range(-ndims, 0))) if ndims else values
