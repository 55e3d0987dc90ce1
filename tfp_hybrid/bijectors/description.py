"""Descriptions of bijectors: one line for `repr`, and one row for each step of a flow."""

import dataclasses
import inspect
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat


class FlowStep(NamedTuple):
    """One row of `FusedBijector.describe`.

    Attributes:
      name: The name of the bijector.
      event_shape: The shape of one x.
      latent_shape: The shape of one z.
      num_weights: The number of entries of all its weights.
    """

    name: str
    event_shape: tuple
    latent_shape: tuple
    num_weights: int


def flow_step(name: str, event_shape: Iterable, latent_shape: Iterable, variables: Iterable) -> FlowStep:
    """Returns the row of a bijector with these shapes and variables."""
    size = sum(math.prod(tf.TensorShape(variable.shape)) for variable in variables)
    return FlowStep(name, tuple(event_shape), tuple(latent_shape), size)


def steps_of(bijector: tfp.bijectors.Bijector, event_shape: tuple[int, ...]) -> list[FlowStep]:
    """Returns the rows of any bijector: those of `describe`, of the parts of a `tfb.Chain`, or one row."""
    if hasattr(bijector, "describe"):
        return bijector.describe()
    rows = []
    for part in _compat.parts_of_chain(bijector) or ():
        rows += steps_of(part, event_shape)
        event_shape = part.inverse_event_shape(event_shape)
    if rows:
        return rows
    return [flow_step(bijector.name, event_shape, bijector.inverse_event_shape(event_shape), bijector.variables)]


def one_line(bijector: tfp.bijectors.Bijector) -> str:
    """Returns the class of one of our bijectors, its shapes, and the settings that differ from their defaults.

    A flow of p(x | c) shows the shape of c after a bar.

    Example:

    >>> bijectors.AffineCoupling((8,), swap=True)
    AffineCoupling((8,), swap=True)
    >>> bijectors.RealNVP((4,), couplings=5)
    FusedChain((4,), 3 bijectors, name='real_nvp')
    >>> bijectors.AffineCoupling((8,), condition_shape=3)
    AffineCoupling((8,) | (3,))
    """
    shapes = dict.fromkeys(str(tuple(shape)) for shape in (bijector.event_shape, bijector.latent_shape))
    given = "" if bijector.condition_shape is None else f" | {tuple(bijector.condition_shape)}"
    return f"{type(bijector).__name__}({', '.join([' -> '.join(shapes) + given, *_settings(bijector)])})"


def _settings(bijector) -> Iterator[str]:
    arguments = dict(inspect.signature(type(bijector).__init__).parameters)
    arguments.pop("condition_shape", None)
    for key, argument in arguments.items():
        value = bijector.parameters.get(key, argument.default)
        if isinstance(value, list) and key != "event_shape":
            yield f"{len(value)} {key if len(value) != 1 else key.removesuffix('s')}"
        elif isinstance(value, (bool, int, float, str)) or dataclasses.is_dataclass(value):
            if key != "event_shape" and value != argument.default:
                yield f"{key}={value!r}"
