"""flowjax's RealNVP on the card: `work`, a part of a run."""

import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import cases
from benchmarks.gpu.part import BATCHES, LEAST_CALLS, SECONDS


def work(context):
    """Compiles, waits, times."""
    jax.config.update("jax_enable_x64", False)  # as flowjax's users have it
    prepared = []
    chosen = [cases.from_json(case) for case in context.bundle.manifest["peers"]["real_nvp"]]
    for case in chosen:
        for kind in ("step", "density", "sample"):
            for loop in ("python", "scan"):
                what = f"flowjax {case} {kind} {loop}"
                call = context.compile(what, _build, context, case, kind, loop)
                if call is not None:
                    prepared.append((what, case, kind, loop, call))
    context.wait()
    for what, case, kind, loop, call in prepared:
        context.attempt(what, _measure, context, case, kind, loop, *call)


def _build(context, case, kind, loop):
    from benchmarks.contestants import flowjax, jax_works

    carry, works = jax_works.functions(case, flowjax.flow(case, fast_inverse=kind != "sample"))
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (BATCHES, case.batch, case.features), jnp.float32)
    y = jax.random.normal(keys[1], (BATCHES, case.batch), jnp.float32)
    steps = 1 if loop == "python" else 3 if context.quick else 200

    def once(carry, i):
        if kind == "step":
            return works["step"](carry, x[i % BATCHES], y[i % BATCHES])
        if kind == "density":
            outputs = works["density"](carry[0], x[i % BATCHES])
        else:
            outputs = [works["sample"](carry[0], jax.random.fold_in(keys[2], i))]
        return carry, sum(jnp.sum(output) for output in outputs)

    def run(carry, start):
        if loop == "python":
            return once(carry, start)
        return lax.scan(once, carry, start + jnp.arange(steps))

    start = time.perf_counter()
    # Only what changes is given back and donated, so that arguments and results stay alike.
    compiled = jax.jit(run, donate_argnums=0).lower(carry, 0).compile()
    compile_s = time.perf_counter() - start
    parameters = sum(leaf.size for leaf in jax.tree.leaves(carry[0]))
    return compiled, carry, steps, compile_s, parameters


def _measure(context, case, kind, loop, compiled, carry, steps, compile_s, parameters):
    times, i, started = [], 0, time.perf_counter()
    while len(times) < LEAST_CALLS + 2 or (time.perf_counter() - started < SECONDS and not context.quick):
        start = time.perf_counter()
        carry, values = compiled(carry, i)
        value = float(jnp.ravel(values)[-1])
        times.append((time.perf_counter() - start) / steps)
        i += steps
    times = times[2:]  # after a warm-up
    seconds = statistics.median(times)
    context.emit(
        "timing",
        library="flowjax",
        model=f"{case.family}_{case.features}_{case.hidden}",
        work=kind,
        policy="float32",
        batch=case.batch,
        parameters=parameters,
        loop=loop,
        seconds=seconds,
        seconds_min=min(times),
        seconds_max=max(times),
        calls=len(times),
        steps_per_call=steps,
        items_per_s=case.batch / seconds,
        compile_s=compile_s,
        value=value,
    )
