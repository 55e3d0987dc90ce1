"""`NeuralSplineFlow`, a builder of flows of spline couplings, for vectors and images."""

import functools
from collections.abc import Callable

from tfp_hybrid import networks
from tfp_hybrid.arguments import as_shape
from tfp_hybrid.bijectors.act_norm import ActNorm
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.invertible_linear import InvertibleLinear
from tfp_hybrid.bijectors.multi_scale import check_builder, check_image, factor_out_or_flatten
from tfp_hybrid.bijectors.preprocessing import integer_preprocessing
from tfp_hybrid.bijectors.spline import Spline
from tfp_hybrid.bijectors.spline_coupling import SplineCoupling
from tfp_hybrid.bijectors.squeeze import Squeeze
from tfp_hybrid.bijectors.steps import Steps


def NeuralSplineFlow(
    event_shape: int | tuple[int, ...],
    *,
    steps: int = 4,
    levels: int = 2,
    bins: int = 8,
    bound: float = 4.0,
    hidden_units: int = 64,
    conditioner: Callable | None = None,
    quantization_levels: int | None = None,
    recompute: bool = False,
    condition_shape: int | tuple[int, ...] | None = None,
    dtype: str = "float32",
    name: str = "neural_spline_flow",
) -> FusedChain:
    """Builds a neural spline flow for vectors, or a multi-scale one for images.

    A step is an ActNorm, an invertible linear map of the features or channels, and a spline coupling, whose conditioner
    is a residual network. For vectors, a spline of each feature with trained knots stands before the coupling, so that
    features which it passes on have one, too. Outside [-bound, bound] all splines are the identity.

    For images, each level is a squeeze, `steps` steps, and factoring out half of the channels, as in `Glow`. The latent
    z is a flat vector.

    Args:
      event_shape: `(d,)` with d >= 2, or `(H, W, C)` with sides divisible by `2 ** levels`.
      steps: The number of steps; for images, on each level.
      levels: The number of scales, for images only.
      bins: The number of pieces of each spline.
      bound: The end of the interval on which splines are not the identity; the ActNorms standardize what they see.
      hidden_units: The width of each coupling's `networks.ResNet`.
      conditioner: A function `(input_shape, units) -> keras layer` in place of these networks; see `SplineCoupling`.
      quantization_levels: As for `RealNVP`; images are scaled.
      recompute: Whether to save memory in training by recomputing activations instead of storing them; see `Steps`.
      condition_shape: The shape of the condition c, for p(x | c), as for `Coupling`; None for p(x).
      dtype: The dtype of the weights and values; the networks may compute in fewer bits under a mixed precision policy.
      name: The prefix of the names of the ops.

    Returns:
      A bijector from z to x; z is a vector with as many entries as x.

    Raises:
      ValueError: If the event cannot be split, if `steps`, `levels` or `bins` is too small, if `bound` is not positive,
        or if `conditioner` is a layer.

    References:
      Durkan, Bekasov, Murray and Papamakarios 2019, "Neural Spline Flows", section 3.
    """
    shape = as_shape(event_shape, "NeuralSplineFlow: `event_shape`")
    vector = len(shape) == 1
    check_builder("NeuralSplineFlow", "steps", steps, conditioner)
    if not vector:
        check_image(shape, levels, "NeuralSplineFlow")
    if conditioner is None:
        conditioner = functools.partial(networks.ResNet, hidden_units=hidden_units, dtype=networks.policy_for(dtype))

    def step(shape):
        own = [Spline(shape, bins, bound, dtype)] if vector else []
        options = dict(conditioner=conditioner, dtype=dtype, condition_shape=condition_shape)
        coupling = SplineCoupling(shape, bins=bins, bound=bound, **options)
        return FusedChain([ActNorm(shape, dtype), InvertibleLinear(shape, dtype), *own, coupling], shape, name="step")

    def level(shape, remaining):
        squeeze = Squeeze(shape)
        shape = tuple(squeeze.latent_shape)
        flow = Steps(functools.partial(step, shape), steps, shape, recompute)
        return [squeeze, flow, factor_out_or_flatten(shape, remaining, level)]

    flow = [Steps(functools.partial(step, shape), steps, shape, recompute)] if vector else level(shape, levels - 1)
    if quantization_levels is not None:
        flow = integer_preprocessing(shape, quantization_levels, dtype=dtype) + flow
    return FusedChain(flow, shape, name=name)
