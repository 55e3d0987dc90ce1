"""Loss and updated weights of the exported modules, beside TensorFlow's on a CPU: `work`, a part of a run.

float32 at precision HIGHEST, without TF32. What agrees is the outputs, and the updated weights taken together. Adam's
momenta after one step are 0.1 times the gradients, in which large terms cancel, so their error is some hundred times
that of the loss; and Adam's first step is hardly more than the gradient's sign, so a weight with a gradient near zero
can be off by twice the learning rate.
"""

import collections
import math
import time

import jax
import numpy as np

from benchmarks.gpu import fills
from benchmarks.gpu.program import Program

TOLERANCE = 1e-4


def work(context):
    """Checks those modules of the groups named in the option that have digests of their results."""
    groups = context.option.split(",")
    entries = [entry for group in groups for entry in context.bundle.modules(group) if entry.get("digests")]
    for entry in entries:
        context.compile(entry["name"], _check, context, entry)


def _check(context, entry):
    program = Program(context.bundle.text(entry, "HIGHEST"))
    values = context.bundle.values(entry)
    start = time.perf_counter()
    try:
        way = "jax.export"
        results = jax.jit(program.call)(*values)
    except Exception as error:
        context.emit("fallback", what=entry["name"], error=str(error)[:300])
        way = "executable"
        device = jax.devices()[0]
        results = program.executable(device)([jax.device_put(value, device) for value in values])
    results = [np.asarray(result) for result in results]
    seconds = time.perf_counter() - start
    pairs = list(zip(results, entry["digests"], strict=True))
    names = {int(result): entry["arguments"][int(argument)]["name"] for argument, result in entry["aliases"].items()}
    errors, groups = [], collections.defaultdict(list)
    for i, (result, digest) in enumerate(pairs):
        errors.append(fills.error(fills.digest(result, i), digest))
        groups[_kind(names.get(i), result)].append((errors[-1] * digest[0], digest[0]))
    together = {kind: _together(parts) for kind, parts in groups.items()}
    worst = int(np.argmax(np.nan_to_num(errors, nan=math.inf)))
    context.emit(
        "exactness",
        module=entry["name"],
        way=way,
        agrees=all(together[kind] <= TOLERANCE for kind in ("outputs", "weights") if kind in together),
        tolerance=TOLERANCE,
        errors=together,
        largest_error=errors[worst],
        largest_of=names.get(worst, "output"),
        results=len(errors),
        compile_and_run_s=round(seconds, 2),
    )


def _kind(name, result):
    """What a result is: of the outputs, the updated weights, the optimizer's state or the metrics' sums."""
    if name is None:
        return "outputs"
    if name.startswith("adam"):
        return "optimizer"
    return "weights" if result.ndim else "metrics"


def _together(parts):
    """The relative error of several arrays as if they were one."""
    differences, norms = zip(*parts, strict=True)
    return math.hypot(*differences) / max(math.hypot(*norms), 1e-12)
