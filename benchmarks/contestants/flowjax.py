"""flowjax: scanned steps, as in `flowjax.flows.coupling_flow`, each after an `Affine` as its ActNorm."""

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax.bijections import (
    Affine,
    Chain,
    Coupling,
    Flip,
    Invert,
    MaskedAutoregressive,
    RationalQuadraticSpline,
    Scan,
)
from paramax import unwrap

from benchmarks.contestants import jax_works


def build(case, work, variant, data):
    """See `jax_works.build`."""
    return jax_works.build(case, work, variant, data, flow(case, fast_inverse=work != "sample"))


def flow(case, fast_inverse: bool = True):
    """Returns the flow of a case, as `jax_works.functions` takes it.

    Args:
      case: A case of vectors.
      fast_inverse: Whether density is the direction that flowjax optimizes, or sampling.
    """

    def layer(key):
        shift_and_scale = Affine(jnp.zeros(case.features), jnp.ones(case.features))
        return Chain([shift_and_scale, _step(case, key), Flip((case.features,))])

    count = case.steps if case.family == "autoregressive" else case.couplings
    bijection = Scan(eqx.filter_vmap(layer)(jax.random.split(jax.random.key(0), count)))
    weights, static = eqx.partition(Invert(bijection) if fast_inverse else bijection, eqx.is_inexact_array)

    def inverse_and_log_det(weights, x):
        return jax.vmap(unwrap(eqx.combine(weights, static)).inverse_and_log_det)(x)

    def sample(weights, key, n):
        noise = jax.random.normal(key, (n, case.features))
        return jax.vmap(unwrap(eqx.combine(weights, static)).transform)(noise)

    return weights, inverse_and_log_det, sample


def _step(case, key):
    options = dict(dim=case.features, nn_width=case.hidden, nn_depth=2)
    if case.family == "autoregressive":
        return MaskedAutoregressive(key, transformer=Affine(), **options)
    transformer = Affine()
    if case.family == "neural_spline":
        transformer = RationalQuadraticSpline(knots=case.bins - 1, interval=case.bound)
    return Coupling(key, transformer=transformer, untransformed_dim=case.features // 2, **options)
