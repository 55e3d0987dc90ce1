"""`Penalty`, the base class of what is added to the objective in training."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.heads import Head


@dataclasses.dataclass(frozen=True)
class Batch:
    """What a training step knows of its rows.

    Attributes:
      x: The inputs that the step has seen, `(n, *event_shape)`.
      features: z, `(n, d)`.
      y: Labels as `head.prepare_labels` returns them, with placeholders for missing ones, which `known` tells.
      known: Which labels are known, `(n,)` of booleans; None for a model without `missing_label`.
      head: The head of the model.
      features_of: A function from inputs to features, in training mode.
    """

    x: tf.Tensor
    features: tf.Tensor
    y: tf.Tensor
    known: tf.Tensor | None
    head: Head
    features_of: Callable[[tf.Tensor], tf.Tensor]


class Penalty(keras.layers.Layer):
    """A term of the objective of each row that only training has, as a Keras layer.

    To write one, override `rows`, and where needed `check` and `inputs`; with arguments of its own `get_config` and
    `settings`, too. Weights of the layer are trained with the model. A saved model names the class, so register it with
    Keras. `batch.head.at_point(z)` is p(y | z) with gradients to z and the head:

    >>> from tfp_hybrid import penalties
    >>> @keras.saving.register_keras_serializable(package="mine")
    ... class Entropy(penalties.Penalty):  # rows without a label shall get a sure answer
    ...     def rows(self, batch):
    ...         entropy = batch.head.at_point(batch.features).entropy()
    ...         return entropy if batch.known is None else tf.where(batch.known, 0.0, entropy)

    Args:
      weight: Its weight > 0 in the objective.
      **kwargs: The arguments of a Keras layer.

    Raises:
      ValueError: If `weight` is not a finite number > 0.
    """

    def __init__(self, weight: float = 1.0, **kwargs):
        arguments.check_number(weight, "weight", 0, open=True)
        super().__init__(**kwargs)
        self.weight = float(weight)

    @property
    def settings(self) -> dict:
        """What it depends on, as JSON; a training goes on only with the same."""
        return {"penalty": type(self).__name__, "weight": self.weight}

    def check(self, model: keras.Model):
        """Raises ValueError for a model that this penalty is not for."""

    def inputs(self, x) -> tf.Tensor:
        """Returns what a training step sees in place of its inputs."""
        return x

    def rows(self, batch: Batch) -> tf.Tensor:
        """Returns what is added to the loss of each row, before it is weighted, in nats, `(n,)`."""
        raise NotImplementedError(f"{type(self).__name__}.rows")

    def weighted_rows(self, batch: Batch, losses: tf.Tensor) -> tf.Tensor:
        """Returns `weight * rows(batch)`, of the shape and dtype of the losses to which they are added.

        Raises:
          ValueError: If `rows` returns something else than a number for each row.
        """
        found = self.rows(batch)
        if not tf.is_tensor(found) or not losses.shape.is_compatible_with(found.shape) or found.shape.rank != 1:
            what = f"a tensor of shape {found.shape}" if tf.is_tensor(found) else repr(found)
            raise ValueError(f"{type(self).__name__}.rows returned {what}; wanted one number for each row, (n,).")
        return self.weight * tf.cast(found, losses.dtype)

    def get_config(self) -> dict:
        return super().get_config() | {"weight": self.weight}


def check_penalties(penalties: Sequence[Penalty], model: keras.Model):
    """Raises ValueError if `penalties` is not a sequence of penalties for a model."""
    if not isinstance(penalties, Sequence) or not all(isinstance(one, Penalty) for one in penalties):
        raise ValueError(f"HybridModel: `penalties` is {penalties!r}; wanted a list of `tfp_hybrid.penalties`.")
    if len({id(one) for one in penalties}) < len(penalties):
        raise ValueError("HybridModel: `penalties` has a penalty twice; wanted different ones.")
    if penalties and model.side_inputs:
        raise ValueError(
            f"HybridModel: `penalties` are given, but the model has the side inputs {list(model.side_inputs)}; wanted "
            "a model of x alone, since they change x."
        )
    for penalty in penalties:
        penalty.check(model)


def penalty_config(penalty: Penalty) -> dict:
    """Returns a penalty as Keras saves it.

    Raises:
      TypeError: If its class is not registered, so that no saved model could be loaded.
    """
    name = keras.saving.get_registered_name(type(penalty))
    if keras.saving.get_registered_object(name) is not type(penalty):
        raise TypeError(
            f"Cannot save the model: the penalty {type(penalty).__name__} is not registered; decorate its class with "
            '`@keras.saving.register_keras_serializable(package="...")`.'
        )
    return keras.saving.serialize_keras_object(penalty)
