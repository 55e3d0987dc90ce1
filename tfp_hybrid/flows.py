"""The density p(x) of a flow, as a `tfd.TransformedDistribution`."""

import tensorflow as tf
import tensorflow_probability as tfp

from tfp_hybrid import _compat
from tfp_hybrid.bijectors import FusedBijector, Lattice, conditions, one_pass
from tfp_hybrid.bijectors.transformers import CircularSpline
from tfp_hybrid.latents import LatticeMixture

tfb = tfp.bijectors
tfd = tfp.distributions


def flow_distribution(flow: tfb.Bijector, latent: tfd.Distribution | None = None) -> tfd.TransformedDistribution:
    """Returns the distribution of `x = flow.forward(z)`, where z has the distribution `latent`.

        log p(x) = log p_z(f(x)) + log|det df/dx|,   f = flow.inverse          (eq. 3 of the paper)

    Args:
      flow: A bijector from z to x, of this package or of TFP.
      latent: The distribution of z. By default it is a factorized standard normal; of a flow of angles, such as
        `bijectors.CircularSplineFlow`, it is uniform on the circles, and of an `IntegerFlow` a
        `latents.LatticeMixture`. For a richer one (the paper's footnote 4), pass any TFP distribution of the same event
        shape, such as another `flow_distribution` or one of `latents`; the GLM stays attached to the z of this flow.

    Returns:
      A `tfd.TransformedDistribution` with the event shape of x.

    Raises:
      ValueError: If the event shape of `latent` does not fit the flow, or if `latent` is missing and the flow has no
        `latent_shape`.

    References:
      Nalisnick et al. 2019, "Hybrid Models with Deep and Invertible Features", section 2.2.
    """
    if not isinstance(flow, tfb.Bijector):
        raise ValueError(f"flow_distribution: `flow` is {flow!r}; wanted a `tfb.Bijector`.")
    inverted = _compat.inverted(flow)
    shape = getattr(flow, "latent_shape", None) if inverted is None else getattr(inverted, "event_shape", None)
    if latent is None:
        if shape is None:
            name = type(flow).__name__.lstrip("_")  # of a private class of TFP, such as `_Chain`, the public one
            raise ValueError(
                f"flow_distribution: `latent` is missing, and `flow` ({name}) has no `latent_shape`; "
                "wanted a distribution, such as latent=tfd.MultivariateNormalDiag(tf.zeros(d)) for vectors of size d."
            )
        dtypes = [variable.dtype for variable in (*flow.trainable_variables, *flow.variables)]
        dtype = next((dtype for dtype in dtypes if dtype.is_floating), None) or flow.inverse_dtype(tf.float32)
        latent = _default_latent(flow, shape, dtype)
    elif not isinstance(latent, tfd.Distribution):
        raise ValueError(f"flow_distribution: `latent` is {latent!r}; wanted a `tfd.Distribution`.")
    elif shape is not None and not latent.event_shape.is_compatible_with(shape):
        raise ValueError(
            f"flow_distribution: `latent` has event shape {tuple(latent.event_shape)}; wanted "
            f"{tuple(shape)}, the latent shape of `flow`."
        )
    return tfd.TransformedDistribution(latent, flow)


def condition_shape(distribution: tfd.Distribution) -> tf.TensorShape | None:
    """Returns the shape of the condition that flows in `distribution` take; None if they take none.

    Raises:
      ValueError: If they take conditions of different shapes.
    """
    return conditions.shape_of_all([distribution], "distribution")


def log_prob_in_one_pass(distribution: tfd.Distribution, x, training: bool = False, condition=None) -> tf.Tensor:
    """Computes log p(x) with one pass through each flow of this package, including flows in the latent distribution.

    Args:
      distribution: Any TFP distribution.
      x: A tensor of shape `batch_shape + event_shape`.
      training: Passed to the bijectors of this package.
      condition: Passed to those that take one, also in the latent distribution; for log p(x | condition).

    Returns:
      log p(x) in nats, of shape `batch_shape`.
    """
    if not _has_flow(distribution):
        return distribution.log_prob(x)
    event_ndims = distribution.event_shape.rank
    z, log_det = one_pass.inverse_and_log_det(distribution.bijector, x, event_ndims, training, condition)
    return log_prob_in_one_pass(distribution.distribution, z, training, condition) + log_det


def sample_given(distribution: tfd.Distribution, n: int, seed, condition) -> tf.Tensor:
    """Draws n events of p(x | condition), `(n, *event_shape)`, as TFP's `sample` does, which knows no stock chains.

    Args:
      distribution: Any TFP distribution.
      n: The number of draws.
      seed: As for TFP.
      condition: Passed to those flows that take one, also in the latent distribution.
    """
    if not _has_flow(distribution):
        return distribution.sample(n, seed=seed)
    latent = distribution.distribution
    z = sample_given(latent, n, seed, condition)
    return one_pass.forward_and_log_det(distribution.bijector, z, latent.event_shape.rank, condition=condition)[0]


def adapt_distribution(distribution: tfd.Distribution, x, condition=None):
    """Initializes the data-dependent weights of the flows in `distribution`, including those in its latent.

    Args:
      distribution: Any TFP distribution.
      x: A batch of its events, `(n, *event_shape)`.
      condition: Their conditions, for flows that take one.
    """
    if _has_flow(distribution):
        z = one_pass.adapt(distribution.bijector, x, condition)
        adapt_distribution(distribution.distribution, z, condition)


def is_adapted(distribution: tfd.Distribution) -> bool:
    """Returns False if a flow in `distribution` has weights that `adapt_distribution` has not initialized yet."""
    if not _has_flow(distribution):
        return True
    return one_pass.is_adapted(distribution.bijector) and is_adapted(distribution.distribution)


def rows_to_adapt(distribution: tfd.Distribution) -> int:
    """Returns how many rows `adapt_distribution` needs for good estimates of all data-dependent weights."""
    if not _has_flow(distribution):
        return 1
    return max(one_pass.rows_to_adapt(distribution.bijector), rows_to_adapt(distribution.distribution))


def _has_flow(distribution):
    bijector = getattr(distribution, "bijector", None)
    return bijector is not None and any(isinstance(part, FusedBijector) for part in (bijector, *bijector.submodules))


def _default_latent(flow, shape, dtype):
    parts = (flow, *flow.submodules)
    lattice = next((part for part in parts if isinstance(part, Lattice)), None)
    if lattice is not None:
        return LatticeMixture(flow.level_sizes(), lattice.quantization_levels, dtype=dtype)
    if any(isinstance(getattr(part, "transformer", None), CircularSpline) for part in parts):
        # VonMises of concentration 0 is uniform, and has a density for angles that rounding moves beyond an end, too.
        entry = tfd.VonMises(tf.zeros(shape, dtype), tf.zeros((), dtype))
    else:
        entry = tfd.Normal(tf.zeros(shape, dtype), tf.ones((), dtype))
    return tfd.Independent(entry, shape.rank, name="latent")
