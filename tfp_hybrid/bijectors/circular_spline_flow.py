"""`CircularSplineFlow`, a builder of flows of angles."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow_probability as tfp

from tfp_hybrid import networks
from tfp_hybrid.arguments import as_shape
from tfp_hybrid.bijectors import conditions
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.coupling import Coupling
from tfp_hybrid.bijectors.elementwise import Elementwise
from tfp_hybrid.bijectors.multi_scale import check_builder
from tfp_hybrid.bijectors.steps import Steps
from tfp_hybrid.bijectors.transformers import CircularSpline

tfb = tfp.bijectors


def CircularSplineFlow(
    event_shape: int | tuple[int],
    *,
    steps: int = 2,
    bins: int = 8,
    hidden_units: int = 64,
    conditioner: Callable | None = None,
    recompute: bool = False,
    condition_shape: int | tuple[int] | None = None,
    dtype: str = "float32",
    name: str = "circular_spline_flow",
) -> FusedChain:
    """Builds a flow of angles in radians, on the circle (d = 1) or the torus, whose density has no seam.

    The first map is a `CircularSpline` of each angle with trained parameters. A step is two couplings by such splines,
    one for each half of the angles, whose conditioners see cos and sin of the other half. Between steps, more than two
    angles move on by one place, so that other halves meet.

    An angle counts modulo 2 pi, in x as in z: p(x) is periodic, and a density for each period. Draws are in [-pi, pi).
    The latent distribution is uniform on the torus unless `flow_distribution` is given another one of angles, such as
    `tfd.VonMises`. For angles in other units, `tfb.Scale` goes in front.

    Args:
      event_shape: `(d,)`; one angle has no couplings.
      steps: The number of steps.
      bins: The number of pieces of each spline.
      hidden_units: The width of each coupling's `networks.ResNet`.
      conditioner: A function `(input_shape, units) -> keras layer` in place of these networks, for vectors of cos and
        sin.
      recompute: Whether to save memory in training by recomputing activations instead of storing them; see `Steps`.
      condition_shape: `(k,)`, the shape of the condition c, for p(x | c); the couplings' conditioners see it after cos
        and sin. None for p(x).
      dtype: The dtype of the weights and values; the networks may compute in fewer bits under a mixed precision policy.
      name: The prefix of the names of the ops.

    Returns:
      A bijector from z to x.

    Raises:
      ValueError: If the event is no vector, or one angle with a condition, which has no coupling to see it; if `steps`
        or `bins` is too small, or if `conditioner` is a layer.

    References:
      Rezende, Papamakarios, Racanière, Albergo, Kanwar, Shanahan and Cranmer 2020, "Normalizing Flows on Tori and
      Spheres", sections 2.1.2 and 2.2.

    Example:

    >>> flow = bijectors.CircularSplineFlow(2)
    >>> p_x = flow_distribution(flow)
    >>> log_px = p_x.log_prob(tf.constant([[0.5, 3.1]]))  # nats, of radians
    """
    shape = as_shape(event_shape, "CircularSplineFlow: `event_shape`")
    if len(shape) != 1:
        raise ValueError(f"CircularSplineFlow: `event_shape` is {shape}; wanted (d,), a vector of angles.")
    check_builder("CircularSplineFlow", "steps", steps, conditioner)
    condition_shape = conditions.checked_shape(condition_shape, shape, "CircularSplineFlow")
    if condition_shape and shape[0] < 2:
        raise ValueError(f"CircularSplineFlow: `event_shape` is {shape}; wanted at least two angles with a condition.")
    policy = networks.policy_for(dtype)
    network = conditioner or functools.partial(networks.ResNet, hidden_units=hidden_units, dtype=policy)
    transformer, (size,) = CircularSpline(bins), shape
    of_angles = functools.partial(networks.OfAngles, network=network, others=sum(condition_shape or ()), dtype=policy)
    options = dict(conditioner=of_angles, dtype=dtype, condition_shape=condition_shape)

    def step():
        halves = [Coupling(shape, transformer, swap=swap, **options) for swap in (False, True)]
        moved = [tfb.Permute(np.roll(np.arange(size), 1))] if size > 2 else []
        return FusedChain(halves + moved, shape, name="step")

    couplings = [Steps(step, steps, shape, recompute)] if size > 1 else []
    return FusedChain([Elementwise(shape, transformer, dtype), *couplings], shape, name=name)
