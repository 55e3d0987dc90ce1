"""Loss and updated weights of the exported modules, beside TensorFlow's on a CPU: `work`, a part of a run.

float32 at precision HIGHEST, without TF32.
"""

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
    errors = [fills.error(fills.digest(result, i), digest) for i, (result, digest) in enumerate(pairs)]
    worst = int(np.nanargmax(errors)) if np.isfinite(errors).any() else 0
    context.emit(
        "exactness",
        module=entry["name"],
        way=way,
        agrees=bool(np.all(np.array(errors) <= TOLERANCE)),
        tolerance=TOLERANCE,
        first_result_error=errors[0],
        largest_error=float(np.max(errors)),
        worst_result=worst,
        errors_above_tolerance=int(np.sum(~(np.array(errors) <= TOLERANCE))),
        results=len(errors),
        compile_and_run_s=round(seconds, 2),
    )
