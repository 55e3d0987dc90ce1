"""flowjax's RealNVP on the card: `work`, a part of a run.

Affine couplings, their layers scanned, as `flowjax.flows.coupling_flow` makes them, with a heteroscedastic Normal head
that is linear in z, and optax's Adam.
"""

import math
import statistics
import time

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import cases
from benchmarks.contestants import LEARNING_RATE
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
    import equinox as eqx
    import optax
    from flowjax.distributions import Normal
    from flowjax.flows import coupling_flow
    from paramax import unwrap

    size = case.features
    keys = jax.random.split(jax.random.key(0), 4)
    base = Normal(jnp.zeros(size))
    options = dict(flow_layers=case.couplings, nn_width=case.hidden, nn_depth=2)
    flow = coupling_flow(keys[0], base_dist=base, invert=kind != "sample", **options)
    head = jnp.zeros((size, 2)), jnp.zeros(2)
    weights, static = eqx.partition((flow, head), eqx.is_inexact_array)
    optimizer = optax.adam(LEARNING_RATE)
    state = optimizer.init(weights)
    x = jax.random.normal(keys[1], (BATCHES, case.batch, size), jnp.float32)
    y = jax.random.normal(keys[2], (BATCHES, case.batch), jnp.float32)
    steps = 1 if loop == "python" else 3 if context.quick else 200

    def latent_head(weights, x):
        flow, (kernel, bias) = unwrap(eqx.combine(weights, static))
        z, log_det = jax.vmap(flow.bijection.inverse_and_log_det)(x)
        log_prob = log_det - 0.5 * (jnp.sum(z**2, -1) + size * math.log(2 * math.pi))
        eta = z @ kernel + bias
        return log_prob, eta[:, 0], jax.nn.softplus(eta[:, 1]) + 1e-3

    def loss_of(weights, x, y):
        log_prob, mean, stddev = latent_head(weights, x)
        log_p_y = -0.5 * ((y - mean) / stddev) ** 2 - jnp.log(stddev) - 0.5 * math.log(2 * math.pi)
        return -jnp.mean(log_p_y + case.generative_weight / size * log_prob)

    def once(carry, i):
        weights, state = carry
        if kind == "step":
            value, gradients = jax.value_and_grad(loss_of)(weights, x[i % BATCHES], y[i % BATCHES])
            updates, state = optimizer.update(gradients, state, weights)
            return (optax.apply_updates(weights, updates), state), value
        if kind == "density":
            outputs = latent_head(weights, x[i % BATCHES])
        else:
            flow = unwrap(eqx.combine(weights, static))[0]
            noise = jax.random.normal(jax.random.fold_in(keys[3], i), (case.batch, size), jnp.float32)
            outputs = [jax.vmap(flow.bijection.transform)(noise)]
        return (weights, state), sum(jnp.sum(output) for output in outputs)

    def run(carry, start):
        if loop == "python":
            return once(carry, start)
        return lax.scan(once, carry, start + jnp.arange(steps))

    start = time.perf_counter()
    # Only what changes is given back and donated, so that arguments and results stay alike.
    compiled = jax.jit(run, donate_argnums=0).lower((weights, state), 0).compile()
    compile_s = time.perf_counter() - start
    parameters = sum(leaf.size for leaf in jax.tree.leaves(weights))
    return compiled, (weights, state), steps, compile_s, parameters


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
