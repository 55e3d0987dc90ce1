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
      y: Labels as `head.prepare_labels` returns them, with any in place of missing ones.
      known: Which labels are known, `(n,)` of booleans; None if all are.
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

    To write one, override `rows` and `get_config`, and where needed `check` and `inputs`.

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

    def get_config(self) -> dict:
        return super().get_config() | {"weight": self.weight}


def check_penalties(penalties: Sequence[Penalty], model: keras.Model):
    """Raises ValueError if `penalties` is not a sequence of penalties for a model."""
    if not isinstance(penalties, Sequence) or not all(isinstance(one, Penalty) for one in penalties):
        raise ValueError(f"HybridModel: `penalties` is {penalties!r}; wanted a list of `tfp_hybrid.penalties`.")
    for penalty in penalties:
        penalty.check(model)
