"""`Steps`: identical steps with stacked weights, traced once, and optionally without stored activations."""

import functools
import json
import numbers
import re
from collections.abc import Callable

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat
from tfp_hybrid.bijectors import description, one_pass
from tfp_hybrid.bijectors.base import FusedBijector
from tfp_hybrid.bijectors.recompute import pull_back, recomputed_inverse
from tfp_hybrid.bijectors.weights import networks_of
from tfp_hybrid.execution import is_inlined, parts_for_cores
from tfp_hybrid.interop import find_weights

tfb = tfp.bijectors


@_compat.ignoring("step", "_slots", "_parameters")  # the template step's own weights are placeholders
class Steps(FusedBijector):
    """`count` identical steps in sequence, each with its own weights.

        forward(z) = step_1(step_2(... step_count(z)))

    Each weight of the step is stored once, stacked, as `(count, *shape)`. TensorFlow traces one step and calls it
    with each slice, so the time to the first training step hardly grows with `count`, and an optimizer has as many
    variables as one step has. An operation of the optimizer on each variable, such as `clipnorm`, acts on all slices
    together. Regularizers and constraints of weights act on each slice. Networks shared between steps become
    independent copies.

    With `recompute`, the gradient of `inverse` stores only z: the backward pass inverts the steps one by one and
    recomputes the activations that it needs. Memory does not grow with the number of steps, but each conditioner is
    evaluated once more, which is about a third more work. Second derivatives are not available.

    Args:
      step: A function `() -> FusedBijector`, called for the initial values of each step. The bijectors must have the
        same structure, and map `event_shape` to `event_shape`. Or one such bijector, at whose values all steps start.
      count: The number of steps.
      event_shape: The shape of one data point x.
      recompute: Whether to recompute activations in the backward pass of `inverse` instead of storing them.
      name: The prefix of the names of the ops.

    Raises:
      ValueError: If `count` < 1, if the steps differ in structure or have another `event_shape`, or if a TFP bijector
        in them has weights.

    References:
      Gomez, Ren, Urtasun and Grosse 2017, "The reversible residual network" (`recompute`).
    """

    def __init__(
        self,
        step: FusedBijector | Callable[[], FusedBijector],
        count: int,
        event_shape: tuple[int, ...],
        recompute: bool = False,
        name: str = "steps",
    ):
        parameters = dict(locals())
        if not isinstance(count, numbers.Integral) or count < 1:
            raise ValueError(f"Steps: `count` is {count}; wanted a whole number, at least 1.")
        given = isinstance(step, FusedBijector)
        built = [step] * count if given else [step() for _ in range(count)]
        super().__init__(event_shape, condition_shape=built[0].condition_shape, parameters=parameters, name=name)
        if not given and len({_structure(one) for one in built}) > 1:
            raise ValueError("Steps: the steps differ in structure; they may differ only in their weights.")
        shape = tuple(built[0].event_shape)
        if len(shape) == len(self.event_shape) and shape != tuple(self.event_shape):
            raise ValueError(f"Steps: `event_shape` is {tuple(self.event_shape)}; wanted {shape}, that of the step.")
        self.step, self.count, self.recompute = built[0], count, recompute
        _compat.set_parameter(self, "step", self.step)
        self.is_exact = self.step.is_exact
        self._slots = self.step.keras_weights()
        _check_weights(self.step, self._slots)
        for slot, *values in zip(self._slots, *(one.keras_weights() for one in built), strict=True):
            stack = tf.stack([value.value for value in values])
            weight = self.add_weight(stack, slot.path.replace("/", "_"), slot.trainable)
            weight.regularizer = slot.regularizer and functools.partial(_sum_over_slices, slot.regularizer)
            weight.constraint = slot.constraint and functools.partial(_map_over_slices, slot.constraint)
        self._functions = _compat.untracked(self, {})
        self._in_parts = self.event_shape.rank == 1 and not _has_statistics(self.step)

    def _forward_and_log_det(self, z, training=False, condition=None):
        return self._run(one_pass.forward_and_log_det, z, training, condition, backwards=True)

    def _inverse_and_log_det(self, x, training=False, condition=None):
        if self.recompute:
            options = dict(event_ndims=self.event_shape.rank, training=bool(training))
            inverse = self._traced(one_pass.inverse_and_log_det, **options)
            backward = self._traced(pull_back, **options)
            outputs, changes = recomputed_inverse(inverse, backward, x, self._slices(), condition)
            self._update(changes)
            return outputs
        return self._run(one_pass.inverse_and_log_det, x, training, condition)

    def _run(self, function, value, training, condition, backwards=False):
        function = self._traced(function, event_ndims=self.event_shape.rank, training=bool(training))
        slices = self._slices()
        outputs, totals, changed, order = [], [], {}, -1 if backwards else 1
        split = parts_for_cores if self._in_parts else lambda rows: [rows]
        parts = split(value)
        conditions = [None] * len(parts) if condition is None else split(condition)
        for part, of_part in zip(parts, conditions, strict=True):
            log_dets = []
            for weights in slices[::order]:
                (part, log_det), changed = function(weights, part, condition=of_part)
                log_dets.append(log_det)
                for i in changed:  # the next part of the rows continues from here
                    weights[int(i)] = changed[i]
            outputs.append(part)
            totals.append(tf.add_n(log_dets))
        self._update([{i: weights[int(i)] for i in changed} for weights in slices])
        return tuple(tf.concat(parts, 0) if len(parts) > 1 else parts[0] for parts in (outputs, totals))

    def _slices(self):
        """Returns the values of the weights of each step."""
        stacks = [tf.unstack(weight.value) for weight in self.keras_weights()]
        return [list(values) for values in zip(*stacks, strict=True)] if stacks else [[]] * self.count

    def _update(self, changes):
        """Assigns the weights that the steps have changed, such as the seeds of dropout."""
        weights = self.keras_weights()
        for i in changes[0]:
            weights[int(i)].assign(tf.stack([changed[i] for changed in changes]))

    def _traced(self, function, **options):
        """Returns `function(step, value, ...) -> outputs` as `(weights, value, ...) -> outputs, changed`.

        It runs with the given values of the step's weights. `changed` maps the positions of the weights that the call
        has changed to their new values.
        """
        key = function.__name__, *options.values()  # a name, not the function, since `tf.Module` sorts keys
        call = functools.partial(self._call_step, function, options)
        if is_inlined():
            # A function passes constants, such as axes, to its gradient. XLA would then treat all inputs of the
            # gradient as constants, and compile it again for each batch.
            return call
        if key not in self._functions:
            # Not inlined, the body is optimized once, and a step's memory is free before the next one begins.
            self._functions[key] = tf.function(call, autograph=False, experimental_attributes={"_noinline": True})
        return self._functions[key]

    def _call_step(self, function, options, values, *inputs, condition=None):
        with keras.StatelessScope(zip(self._slots, values, strict=True), collect_losses=True) as scope:
            given = [scope.get_current_value(slot) for slot in self._slots]
            outputs = function(self.step, *inputs, condition=condition, **options)
            now = [scope.get_current_value(slot) for slot in self._slots]
        if scope.losses:
            raise ValueError(
                "Steps: a conditioner adds a loss when it is called, such as that of an activity regularizer, which "
                "would be lost here. Remove it, or use regularizers of weights, which are kept."
            )
        return outputs, {str(i): b for i, (a, b) in enumerate(zip(given, now, strict=True)) if a is not b}

    def adapt(self, x, condition=None) -> tf.Tensor:
        """Sets the data-dependent weights of each step from its own input, and returns `inverse(x)`."""
        x, changes = tf.convert_to_tensor(x), []
        given = {} if condition is None else {"condition": tf.convert_to_tensor(condition)}
        for values in self._slices():
            x, changed = self._traced(one_pass.adapt)(values, x, **given)
            changes.append(changed)
        self._update(changes)
        return x

    def is_adapted(self) -> bool:
        """Returns False if a step has not been adapted yet."""
        for values in self._slices():
            with keras.StatelessScope(zip(self._slots, values, strict=True)):
                if not self.step.is_adapted():
                    return False
        return True

    def describe(self) -> list[description.FlowStep]:
        """Lists all steps in one row; see the base class."""
        name = f"{self.name} ({self.count} x {self.step.name})"
        return [description.flow_step(name, self.event_shape, self.latent_shape, self.keras_weights())]


def _check_weights(step, slots):
    ours = {id(part) for weight in slots for part in (weight, weight.value)}
    found = [item.weights if isinstance(item, keras.layers.Layer) else [item] for item in find_weights(step)]
    others = [weight.name for weights in found for weight in weights if id(weight) not in ours]
    if others:
        raise ValueError(
            f"Steps: a TFP bijector in the step has weights, {others}; wanted weights only in `FusedBijector`s."
        )


def _has_statistics(step):
    """Returns whether a conditioner keeps running statistics, so that it must be called with whole batches."""
    weights = [weight for network in networks_of(step) for weight in network.non_trainable_variables]
    return any(tf.as_dtype(weight.dtype).is_floating for weight in weights)


def _structure(bijector):
    """Returns a string that is equal for bijectors that differ only in the values of their weights."""
    parts = [part for part in (bijector, *bijector.submodules) if isinstance(part, tfb.Bijector)]
    settings = [(type(part).__name__, part.parameters) for part in parts]
    networks = [_config(network) for network in networks_of(bijector)]
    shapes = [(weight.shape, weight.dtype) for weight in bijector.keras_weights()]
    text = json.dumps([settings, shapes, networks], default=repr, sort_keys=True)
    text = re.sub(r"_\d+\b|at 0x[0-9a-f]+", "", text)  # Keras numbers its layers
    return str(json.loads(text, object_hook=_without_initial_values))


def _config(network):
    try:
        return network.get_config()
    except NotImplementedError:  # a subclass of keras.Model without a config
        return type(network).__name__


def _without_initial_values(config):
    return {key: value for key, value in config.items() if key != "seed" and not key.endswith("_initializer")}


def _sum_over_slices(regularizer, stacked):
    return sum(regularizer(value) for value in tf.unstack(stacked))


def _map_over_slices(constraint, stacked):
    return tf.stack([constraint(value) for value in tf.unstack(stacked)])
