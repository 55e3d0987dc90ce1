"""What inputs may be: an array, or a dict of x and what flow and head see beside; features may stand in x's place."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfp_hybrid.models import condition
from tfp_hybrid.tables import frames

X = "x"
"""The name of x in a dict of inputs."""

KEY = "cached_features"
"""The key of features in a dict, by which a step knows them from raw inputs."""

_ROWS_TO_COMPARE = 30, 1000  # the least, which are not alike by chance, and the most


def is_dict(x) -> bool:
    """Returns whether inputs are a dict, checked or not."""
    return isinstance(x, Mapping)


def is_cached(x) -> bool:
    """Returns whether a batch holds features that were computed before."""
    return isinstance(x, dict) and KEY in x


def as_cached(features) -> dict:
    """Returns features in the form in which a step takes them in place of raw inputs."""
    return {KEY: features}


def main(x):
    """Returns x without side inputs: an array, or a dict of cached features."""
    if not is_dict(x):
        return x
    return as_cached(x[KEY]) if is_cached(x) else x[X]


def with_main(x, value):
    """Returns inputs with another x: an array, or a dict of cached features."""
    if not is_dict(x):
        return value
    side = {name: one for name, one in x.items() if name not in (X, KEY)}
    return (value if isinstance(value, dict) else {X: value}) | side


def check_names(head, flow_inputs=()):
    """Raises ValueError if a side input of a head has a name that means something else in a dict of inputs."""
    taken = [name for name in (X, KEY, *flow_inputs) if name in head.side_inputs]
    if taken:
        raise ValueError(f"HybridModel: `head` has a side input named {taken[0]!r}; wanted another name.")


def columns(model, x) -> list[tf.Tensor]:
    """Returns what the head of a model sees of a checked batch beside z, columns `(n,)`; nothing of x alone."""
    names = {} if model.head is None else model.head.side_inputs
    return model.head.side_columns(x) if names and is_dict(x) and names.keys() <= x.keys() else []


def as_inputs(x, condition_of_x) -> dict:
    """Returns inputs of a model of p(x | c) from x, or features in its place, and conditions."""
    return (x if is_dict(x) else {X: x}) | {condition.NAME: condition_of_x}


def condition_in(x):
    """Returns the condition in checked inputs, `(n, *condition_shape)`; None if there is none."""
    return x.get(condition.NAME) if is_dict(x) else None


def check_none(model, what: str):
    """Raises ValueError if a model, or a head, has side inputs, for something, `what`, that takes x alone."""
    if model.side_inputs:
        raise ValueError(f"{what}: `model` has the side inputs {list(model.side_inputs)}; wanted a model of x alone.")


def count(x) -> int:
    """Returns the number of rows of inputs."""
    return len(next(iter(x.values()))) if is_dict(x) else len(x)


def take(x, rows):
    """Returns some rows of inputs, by a slice, a mask or indices."""
    return {name: one[rows] for name, one in x.items()} if is_dict(x) else x[rows]


def tensors(x):
    """Returns checked inputs as tensors."""
    return tf.nest.map_structure(tf.convert_to_tensor, x)


def frame_in(x):
    """Returns the DataFrame that x is, or that the x of a dict is; None if there is none."""
    x = x.get(X) if is_dict(x) else x
    return x if frames.is_frame(x) else None


def split(x, model, argument: str) -> tuple:
    """Splits inputs as they are given into x and a dict of side inputs.

    Args:
      x: A dict with "x" and each of the model's `side_inputs`; or a DataFrame with columns of these names, whose other
        columns are x, if the flow has no condition. For a model without side inputs: x itself.
      model: A `DensityModel`.
      argument: The name of x in error messages.

    Raises:
      ValueError: If a side input is absent or unknown, or is also a column of x.
    """
    names = list(model.side_inputs)
    if not names:
        if is_dict(x):
            raise ValueError(
                f"{argument} is a dict of {sorted(map(str, x))}; wanted an array: the model takes x alone."
            )
        return x, {}
    if frames.is_frame(x) and condition.NAME not in model.flow_inputs:
        columns = list(map(str, x.columns))
        missing = [name for name in names if name not in columns]
        if missing:
            raise ValueError(f"{argument} lacks the columns {missing}; wanted those of the side inputs, {names}.")
        chosen = [columns.index(name) for name in names]
        rest = [place for place in range(len(columns)) if place not in chosen]
        return x.iloc[:, rest], {name: x.iloc[:, place].to_numpy() for name, place in zip(names, chosen, strict=True)}
    wanted = [X, *names]
    if not is_dict(x):
        raise ValueError(
            f"{argument} is a {type(x).__name__}; wanted a dict of {wanted}, since the model takes more than x"
            + ("." if model.flow_inputs else "; or a DataFrame with their columns.")
        )
    if set(x) != set(wanted):
        absent, unknown = (
            [name for name in wanted if name not in x],
            sorted(str(name) for name in x if name not in wanted),
        )
        raise ValueError(
            f"{argument} is a dict that "
            + " and ".join([f"lacks {absent}"] * bool(absent) + [f"has {unknown}"] * bool(unknown))
            + f"; wanted {wanted}."
        )
    if frames.is_frame(x[X]) and (doubled := [name for name in names if name in map(str, x[X].columns)]):
        raise ValueError(f"{argument}: x has the columns {doubled}, which are side inputs; wanted them there alone.")
    return x[X], {name: x[name] for name in names}


def joined(x: np.ndarray, side: dict, model, argument: str, training: bool):
    """Returns checked inputs: x, or a dict of x and the checked side inputs.

    Raises:
      ValueError: If a side input is not one value for each row, or as the head wants it; or, for training, if a column
        of x is the ids of a group, or if no row belongs to a level.
    """
    if not side:
        return x
    found = model.check_side_inputs(side, argument)
    for name, values in found.items():
        if len(values) != len(x):
            raise ValueError(f"{argument}: {name!r} has {len(values)} rows but x has {len(x)}; they must match.")
        if training and x.ndim == 2 and values.ndim == 1 and values.dtype == np.int64 and len(x) >= _ROWS_TO_COMPARE[0]:
            rows = slice(_ROWS_TO_COMPARE[1])
            same = (x[rows] == values[rows, np.newaxis]).all(0)
            if same.any() and len(np.unique(values[rows])) > 1:
                raise ValueError(
                    f"{argument}: column {same.argmax()} of x is the ids of {name!r}; wanted them beside x alone."
                )
    if training and model.head is not None and len(x) >= _ROWS_TO_COMPARE[0]:
        model.head.check_training_inputs(found, argument)
    return {X: x, **found}
