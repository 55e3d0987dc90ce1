"""Times of the exported modules, by a loop in Python and by `jax.lax.scan`: `work`, a part of a run."""

import os
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.gpu.part import BATCHES, LEAST_CALLS, SECONDS
from benchmarks.gpu.profiling import kernels
from benchmarks.gpu.program import Program

PROFILED = ("main", "wide", "nhwc")  # parts


def work(context):
    """Compiles the modules of the group named in the option, waits, and times each."""
    prepared = []
    for entry in context.bundle.modules(context.option):
        for loop in entry["loops"]:
            what = f"{entry['name']} {loop}"
            timed = context.compile(what, _compiled, context, entry, loop)
            if timed is None and loop == "scan":
                timed = context.compile(what, _compiled, context, entry, "executable")
            if timed is not None:
                context.emit("compiled", module=entry["name"], loop=timed["loop"], compile_s=timed["compile_s"])
                prepared.append((what, entry, timed))
    context.wait()
    runs = []
    for what, entry, timed in prepared:
        runs.append(context.attempt(what, _measure, context, entry, timed, needs=0 if context.quick else 2))
    if context.name in PROFILED:
        for run, (what, entry, timed) in zip(runs, prepared, strict=True):
            if run is not None and timed["loop"] == "scan":
                needs = 0 if context.quick else 10
                found = context.attempt(f"profile of {what}", kernels, run, timed["steps"], needs=needs)
                context.emit("profile", module=entry["name"], **(found or {}))


def _compiled(context, entry, loop):
    program = Program(context.bundle.text(entry))
    inputs = len(entry["inputs"])
    aliases = {int(argument): int(result) for argument, result in entry["aliases"].items()}
    build = {"python": _python_loop, "scan": _scan, "executable": _executable}[loop]
    return {"loop": loop} | build(program, entry, inputs, aliases, context)


def _updated(weights, results, inputs, aliases):
    """The weights after a step: those that it updates from its results, the others as they were."""
    return [results[aliases[i + inputs]] if i + inputs in aliases else weight for i, weight in enumerate(weights)]


def _python_loop(program, entry, inputs, aliases, context):
    jitted = jax.jit(lambda *arguments: program.call(*arguments), donate_argnums=tuple(aliases))
    return _one_by_one(entry, inputs, aliases, *_compile(jitted, program.arguments))


def _executable(program, entry, inputs, aliases, context):
    start = time.perf_counter()
    execute = program.executable(jax.devices()[0])
    compiling = {"compile_s": time.perf_counter() - start}
    return _one_by_one(entry, inputs, aliases, lambda *arguments: execute(list(arguments)), compiling)


def _one_by_one(entry, inputs, aliases, call, compiling):
    def start(values):
        state = {"i": 0, "weights": [jax.device_put(value) for value in values[inputs:]]}
        data = _data(entry, values)

        def run():
            batch = [array[state["i"] % BATCHES] for array in data]
            state["i"] += 1
            results = call(*batch, *state["weights"])
            state["weights"] = _updated(state["weights"], results, inputs, aliases)
            if entry["work"] == "step":
                return float(results[0])  # fetched, as `fit` does
            jax.block_until_ready(results)
            return results

        return lambda: run() if entry["work"] == "step" else float(jnp.ravel(run()[0])[0])

    return compiling | {"start": start, "steps": 1}


def _scan(program, entry, inputs, aliases, context):
    steps = 3 if context.quick else entry["scan_steps"]

    def run(data, weights):
        def body(carry, i):
            weights, total = carry
            results = program.call(*(array[i % BATCHES] for array in data), *weights)
            # Every output counts, so that none is left out.
            outputs = results[:1] if entry["work"] == "step" else results
            value = sum(jnp.sum(output.astype(jnp.float32)) for output in outputs)
            return (_updated(weights, results, inputs, aliases), total + value), None

        return lax.scan(body, (list(weights), jnp.float32(0)), jnp.arange(steps))[0]

    shapes = program.arguments
    data = [jax.ShapeDtypeStruct((BATCHES, *shape.shape), shape.dtype) for shape in shapes[:inputs]]
    call, compiling = _compile(jax.jit(run, donate_argnums=1), (data, list(shapes[inputs:])))

    def start(values):
        state = {"weights": [jax.device_put(value) for value in values[inputs:]]}
        data = [jnp.stack(batches) for batches in zip(*_batches(entry, values), strict=True)]

        def run():
            state["weights"], total = call(data, state["weights"])
            return float(total) / steps

        return run

    return compiling | {"start": start, "steps": steps}


def _compile(jitted, shapes):
    start = time.perf_counter()
    lowered = jitted.lower(*shapes)
    middle = time.perf_counter()
    compiled = lowered.compile()
    end = time.perf_counter()
    seconds = {"lower_s": middle - start, "compile_s": end - middle}
    return compiled, seconds | {"bytes": _bytes(compiled)}


def _bytes(compiled):
    """Device memory of a call: arguments, results and temporary buffers."""
    try:
        found = compiled.memory_analysis()
        sizes = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
        return int(sizes - found.alias_size_in_bytes)
    except Exception:
        return None


def _batches(entry, values):
    """The module's inputs, `BATCHES` times; never zeros, and each of its own."""
    first = values[: len(entry["inputs"])]
    if entry["work"] == "sample":
        return [[jnp.asarray(first[0] + i)] for i in range(BATCHES)]
    return [[jnp.asarray(np.roll(value, i, axis=0)) for value in first] for i in range(BATCHES)]


def _data(entry, values):
    return [list(batches) for batches in zip(*_batches(entry, values), strict=True)]


def _measure(context, entry, timed):
    run = timed["start"](context.bundle.values(entry))
    value = run()
    run()
    times, started = [], time.perf_counter()
    while len(times) < LEAST_CALLS or (time.perf_counter() - started < SECONDS and not context.quick):
        start = time.perf_counter()
        value = run()
        times.append((time.perf_counter() - start) / timed["steps"])
    seconds = statistics.median(times)
    device = jax.devices()[0]
    context.emit(
        "timing",
        module=entry["name"],
        flags=os.environ.get("XLA_FLAGS", ""),
        **{key: entry[key] for key in ("library", "model", "work", "policy", "batch", "parameters")},
        loop=timed["loop"],
        seconds=seconds,
        seconds_min=min(times),
        seconds_max=max(times),
        calls=len(times),
        steps_per_call=timed["steps"],
        items_per_s=entry["batch"] / seconds,
        flops=entry["flops"],
        flops_per_s=entry["flops"] / seconds,
        compile_s=timed["compile_s"],
        lower_s=timed.get("lower_s"),
        bytes=timed.get("bytes"),
        process_peak_bytes=(device.memory_stats() or {}).get("peak_bytes_in_use"),
        value=value,
    )
    return run
