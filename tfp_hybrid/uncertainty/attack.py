"""Adversarial inputs: small changes of x that make p(y|x) wrong, to test what a model and its scores make of them."""

import keras
import numpy as np
import tensorflow as tf

from tfp_hybrid import arguments
from tfp_hybrid.execution import graph_function
from tfp_hybrid.models import HybridModel, checks, side_inputs

__all__ = ["fgsm", "pgd"]


def fgsm(
    model: HybridModel,
    x,
    y,
    epsilon: float,
    generative_weight: float = 0.0,
    bounds: tuple[float, float] | None = None,
    batch_size: int | None = 256,
) -> np.ndarray:
    """The fast gradient sign method: one step, `x + epsilon sign(d objective / dx)`.

    The objective, the arguments, what is returned and the errors are those of `pgd`.

    References:
      Goodfellow, Shlens and Szegedy 2015, "Explaining and Harnessing Adversarial Examples", section 4.
    """
    return _attack(model, x, y, epsilon, 1, epsilon, generative_weight, bounds, None, batch_size, False)


def pgd(
    model: HybridModel,
    x,
    y,
    epsilon: float,
    steps: int = 20,
    step_size: float | None = None,
    generative_weight: float = 0.0,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
    batch_size: int | None = 256,
    verbose: bool = False,
) -> np.ndarray:
    """Projected gradient descent: ascends the sign of the gradient, within `epsilon` of x, from a random start, of

        -log p(y|x) + w log p(x),          w = `generative_weight`

    With w = 0, it only makes the response y unlikely. With w > 0, it also makes the input likely, as someone does who
    knows that log p(x) is watched. With an encoder, p(x) is p(features).

    The result is an input like any other: integers if x are integers, and within the bounds.

    Args:
      model: A trained `HybridModel`.
      x: An array `(n, *input_shape)`.
      y: The responses to move away from, as in `fit`: the labels, or the model's own predictions.
      epsilon: The largest change of an entry of x, in the unit of x; whole for integers.
      steps: The number of steps.
      step_size: The change of each entry in a step; `2.5 * epsilon / steps` if None.
      generative_weight: w, the weight of log p(x) in nats.
      bounds: The lowest and the highest value of an entry. The result also stays within the levels of a flow that
        dequantizes, and within what the dtype of integers holds.
      seed: The seed of the random start.
      batch_size: The number of rows that are attacked at once; 256 if None.
      verbose: Whether to show how many rows have been attacked.

    Returns:
      The changed inputs, an array of the shape and dtype of x.

    Raises:
      ValueError: If an argument is not as above, or if x has no gradient, as under an encoder of integers.

    References:
      Madry, Makelov, Schmidt, Tsipras and Vladu 2018, "Towards Deep Learning Models Resistant to Adversarial Attacks",
      section 2.1.
    """
    arguments.check_count(steps, "steps")
    arguments.check_count(seed, "seed", least=0)
    arguments.check_number(epsilon, "epsilon", 0, open=True)
    step_size = 2.5 * epsilon / steps if step_size is None else step_size
    random = np.random.default_rng(seed)
    return _attack(model, x, y, epsilon, steps, step_size, generative_weight, bounds, random, batch_size, verbose)


def _attack(model, x, y, epsilon, steps, step_size, generative_weight, bounds, random, batch_size, verbose):
    if not isinstance(model, HybridModel):
        raise ValueError(f"model is a {type(model).__name__}; wanted a HybridModel.")
    side_inputs.check_none(model, "attack")
    arguments.check_batch_size(batch_size)
    arguments.check_number(epsilon, "epsilon", 0, open=True)
    arguments.check_number(step_size, "step_size", 0, open=True)
    arguments.check_number(generative_weight, "generative_weight", 0)
    if hasattr(x, "iloc"):
        raise ValueError(f"x is a {type(x).__name__}; wanted an array, since the changed inputs are returned as one.")
    given = np.asarray(x)
    rows = checks.inputs(x, model)
    y = checks.labels(y, model.head, len(rows))
    model.check_encoder()
    dtype = model.inputs_spec.dtype
    if not dtype.is_floating:
        raise ValueError(f"model has an encoder of {dtype.name}; wanted one of real numbers, which have gradients.")
    levels = model.inputs_spec.levels
    whole = bool(levels) or given.dtype.kind in "iub"
    if whole and epsilon != int(epsilon):
        raise ValueError(f"epsilon is {epsilon!r}; wanted a whole number, since x are integers.")
    low, high = _bounds(bounds, rows, given.dtype, levels)
    ascend = _ascent(model, step_size, generative_weight)
    batch_size = batch_size or 256
    bar, parts = keras.utils.Progbar(len(rows), unit_name="row") if verbose else None, []
    for start in range(0, len(rows), batch_size):
        original = rows[start : start + batch_size].astype(dtype.as_numpy_dtype)
        limits = np.maximum(original - epsilon, low), np.minimum(original + epsilon, high)
        first = original if random is None else random.uniform(*limits, original.shape)
        found, *limits = (tf.constant(value, dtype) for value in (first, *limits))
        for _ in range(steps):
            found = ascend(found, y[start : start + batch_size], *limits)
        parts.append(np.round(found) if whole else found.numpy())
        if bar:
            bar.update(start + len(original))
    return np.concatenate(parts).astype(given.dtype)


def _bounds(bounds, rows, dtype, levels):
    """Returns the lowest and the highest value of an entry, by what is given, the dtype and the levels."""
    if bounds is None:
        low, high = -np.inf, np.inf
    else:
        if np.shape(bounds) != (2,):
            raise ValueError(f"bounds is {bounds!r}; wanted a pair, the lowest and the highest value of an entry.")
        low, high = bounds
        arguments.check_number(low, "bounds[0]")
        arguments.check_number(high, "bounds[1]", low, open=True)
    if dtype.kind in "iub":
        ends = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        low, high = max(low, ends[0]), min(high, ends[1])
    if levels:
        low, high = max(low, 0), min(high, levels - 1)
    if not low <= rows.min() <= rows.max() <= high:
        raise ValueError(
            f"bounds is {bounds}, but x has values from {rows.min()} to {rows.max()}; wanted x within bounds."
        )
    return low, high


def _ascent(model, step_size, generative_weight):
    """Returns the function of one step, compiled for batches of any size."""

    @graph_function
    def ascend(x, y, low, high):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            encoding = model.encode(x)
            objective = generative_weight * encoding.log_prob
            objective -= tf.cast(encoding.p_y.log_prob(y), objective.dtype)
        gradient = tape.gradient(objective, x)
        if gradient is None:
            raise ValueError("model: no gradient of log p(y|x) reaches x; wanted a differentiable encoder.")
        signs = tf.where(tf.math.is_nan(gradient), tf.zeros_like(gradient), tf.sign(gradient))
        return tf.clip_by_value(x + step_size * signs, low, high)

    return ascend
