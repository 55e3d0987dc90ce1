"""The models whose functions are exported, with TensorFlow."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks.export_stablehlo import trained_model
from benchmarks.gpu import fills
from benchmarks.gpu.modules import OURS

LARGE = 4096  # numbers in an array that is described rather than stored
_UNIT = 3**0.5  # the half-width of a uniform distribution of variance 1


@dataclasses.dataclass(frozen=True)
class Functions:
    """The functions of one model.

    Attributes:
      works: from a work's name, and a batch size, to a function of tensors.
      settle: sets what depends on the data, such as ActNorms, once the other weights are in place.
      parameters: trainable numbers.
    """

    works: Callable[[str, int], Callable]
    settle: Callable[[], None]
    parameters: int


def inputs(case, work: str, seed: int) -> dict[str, tuple]:
    """From the names of a function's inputs to `(fill, shape, dtype)`."""
    glow = case.family == "glow"
    x = fills.uniform(seed, 0.0, 1.0) if glow else fills.uniform(seed, -_UNIT, _UNIT)
    y = fills.integers(seed + 1, case.classes) if glow else fills.uniform(seed + 1, -_UNIT, _UNIT)
    x, y = (x, (case.batch, *case.shape), "float32"), (y, (case.batch,), "int32" if glow else "float32")
    seeds = fills.integers(seed + 2, 2**31 - 1), (2,), "int32"
    return {"step": {"x": x, "y": y}, "density": {"x": x}, "sample": {"seed": seeds}}[work]


def functions(library: str, case, policy: str) -> Functions:
    """A model of a case, its weights not at their start, so that every part of it has a say."""
    return _ours(case, policy) if library == OURS else _stock(case)


def _ours(case, policy):
    x, y = (tf.constant(fills.make(*described)) for described in inputs(case, "step", 7).values())
    model = trained_model(case, policy, x, y, seed=0)

    def infer(x):
        encoding = model.encode(x)
        p_y, log_prob = encoding.p_y, encoding.log_prob
        return log_prob, *([p_y.probs_parameter()] if case.family == "glow" else [p_y.mean(), p_y.stddev()])

    def works(work, batch):
        if work == "step":
            return lambda x, y: model.train_step((x, y))["loss"]
        return infer if work == "density" else lambda seed: model.distribution.sample(batch, seed=seed)

    return Functions(works, lambda: model.adapt(x.numpy()), _count(model.trainable_variables))


def _stock(case):
    from benchmarks.contestants import tensorflow_probability as stock

    def built(case):
        works, variables, optimizer = stock.functions(case)
        optimizer.build(variables)
        return works, variables

    rng = np.random.default_rng(0)
    made = {}

    def works(work, batch):
        # The batch of its samples is the case's; so there is a model for each.
        if batch not in made:
            made[batch] = built(dataclasses.replace(case, batch=batch))
            for variable in made[batch][1]:
                variable.assign_add(rng.normal(scale=0.02, size=variable.shape))
        return made[batch][0][work]

    works("step", case.batch)
    return Functions(works, lambda: None, _count(made[case.batch][1]))  # TFP's ActNorms settle at the first call


def _count(variables):
    return int(sum(np.prod(variable.shape) for variable in variables))


def reproducible(variable, seed: int) -> dict | None:
    """Gives a large variable a value that another machine can make: numbers of the same standard deviation, or zeros.

    Args:
      variable: a `tf.Variable` or a constant.
      seed: of the numbers.

    Returns:
      How to make them; None for a small variable, a constant, or integers, which are to be stored.
    """
    value = variable.numpy()
    if value.size <= LARGE or not np.issubdtype(value.dtype, np.floating) or not hasattr(variable, "assign"):
        return None
    if not value.any():
        return fills.zeros()
    width = _UNIT * float(value.std())
    fill = fills.uniform(seed, -width, width)
    variable.assign(fills.make(fill, value.shape, value.dtype))
    return fill
