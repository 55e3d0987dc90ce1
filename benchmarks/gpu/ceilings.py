"""What the card can do: matrix products in TF32 and bfloat16, and a copy of its memory: `work`, a part of a run."""

import functools
import statistics
import time

import jax
import jax.numpy as jnp


def work(context):
    """Measures the ceilings."""
    size = 256 if context.quick else 8192
    for name, dtype, precision in (
        ("matmul_tf32", jnp.float32, "default"),
        ("matmul_bfloat16", jnp.bfloat16, "default"),
        ("matmul_float32_highest", jnp.float32, "highest"),
    ):
        context.attempt(name, _matmul, context, name, size, dtype, precision)
    context.attempt("copy", _copy, context, 2**20 if context.quick else 2**31)


def _matmul(context, name, size, dtype, precision):
    a, b = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in range(2))
    multiply = jax.jit(functools.partial(jnp.matmul, precision=precision))
    seconds = _median(lambda: multiply(a, b))
    context.emit("ceiling", name=name, size=size, seconds=seconds, flops_per_s=2 * size**3 / seconds)


def _copy(context, size):
    """Adds one to each number, so that no memory is only renamed: each byte is read once and written once."""
    values = jax.random.uniform(jax.random.key(0), (size // 4,), jnp.float32)
    seconds = _median(functools.partial(jax.jit(lambda x: x + 1), values))
    context.emit("ceiling", name="copy", size=size, seconds=seconds, bytes_per_s=2 * size / seconds)


def _median(function, repetitions=20):
    for _ in range(3):
        function().block_until_ready()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function().block_until_ready()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
