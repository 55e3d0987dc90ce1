"""The flows written in JAX for the comparison are bijections with the right log-determinants."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import cases

pytestmark = pytest.mark.nightly
FLOWS = {
    "glow": ("jax", "glow"),
    "real_nvp": ("jax", "real_nvp"),
    "flowjax": ("flowjax", "real_nvp"),
    "flowjax_spline": ("flowjax", "neural_spline"),
    "flowjax_autoregressive": ("flowjax", "autoregressive"),
}


@pytest.fixture(params=FLOWS)
def flow(request):
    """(case, weights that are not the identity's, inverse_and_log_det, sample)"""
    for needed in ("optax", "flowjax"):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    contestant, name = FLOWS[request.param]
    module, case = importlib.import_module(f"benchmarks.contestants.{contestant}"), cases.QUICK_CASES[name]
    weights, inverse_and_log_det, sample = module.flow(case)
    leaves, structure = jax.tree.flatten(weights)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.1 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return case, jax.tree.unflatten(structure, moved), inverse_and_log_det, sample


def test_log_det_is_that_of_the_jacobian(flow):
    case, weights, inverse_and_log_det, _ = flow
    x = jax.random.normal(jax.random.key(2), (2, *case.shape))
    z, log_det = inverse_and_log_det(weights, x)
    assert z.shape == (2, cases.dimensions(case))
    for row, value in zip(x, log_det, strict=True):
        jacobian = jax.jacfwd(lambda one: inverse_and_log_det(weights, one[None])[0][0])(row)
        _, wanted = jnp.linalg.slogdet(jacobian.reshape(cases.dimensions(case), -1))
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-3)


def test_samples_are_the_inverse(flow):
    case, weights, inverse_and_log_det, sample = flow
    key = jax.random.key(3)
    z, _ = inverse_and_log_det(weights, sample(weights, key, 3))
    if case.family != "glow":
        noise = jax.random.normal(key, (3, case.features))
    else:
        keys, last = jax.random.split(key, case.levels), case.levels - 1
        shapes = [
            (3, side, side, channels if level == last else channels // 2)
            for level, (side, channels) in enumerate(case.level_shapes)
        ]
        parts = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
        noise = jnp.concatenate([part.reshape(3, -1) for part in parts], -1)
    np.testing.assert_allclose(z, noise, rtol=1e-2, atol=1e-3)
