"""`Glow`, a builder of flows for images."""

import functools
from collections.abc import Callable

from tfp_hybrid import networks
from tfp_hybrid.arguments import as_shape
from tfp_hybrid.bijectors.act_norm import ActNorm
from tfp_hybrid.bijectors.affine_coupling import AffineCoupling
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.invertible_linear import InvertibleLinear
from tfp_hybrid.bijectors.multi_scale import check_builder, check_image, factor_out_or_flatten
from tfp_hybrid.bijectors.preprocessing import integer_preprocessing
from tfp_hybrid.bijectors.squeeze import Squeeze
from tfp_hybrid.bijectors.steps import Steps


def Glow(
    event_shape: tuple[int, int, int],
    *,
    levels: int = 2,
    steps: int = 8,
    hidden_units: int = 64,
    conditioner: Callable | None = None,
    additive: bool = False,
    quantization_levels: int | None = 256,
    recompute: bool = False,
    condition_shape: int | tuple[int, ...] | None = None,
    dtype: str = "float32",
    name: str = "glow",
) -> FusedChain:
    """Builds a Glow for images; each level is a squeeze, `steps` steps, and factoring out half of the channels.

    A step is an ActNorm, an invertible 1x1 convolution and an affine coupling. The latent z is a flat vector of
    H * W * C numbers.

    Args:
      event_shape: `(H, W, C)`, with H and W divisible by `2 ** levels`.
      levels: The number of scales.
      steps: The number of steps on each level.
      hidden_units: The number of channels of the hidden layers of each coupling's network.
      conditioner: A function `(input_shape, units) -> keras layer` in place of `networks.ConvNet`; see
        `AffineCoupling`.
      additive: Whether to use additive couplings instead of affine ones.
      quantization_levels: The images are integers 0 .. quantization_levels-1, which are dequantized and scaled, and
        log p(x) is that of the integers' unit cubes. If None, the images are real numbers, used as they are.
      recompute: Whether to save memory in training by recomputing activations instead of storing them; see `Steps`.
      condition_shape: The shape of the condition c, for p(x | c), as for `Coupling`; None for p(x).
      dtype: The dtype of the weights and values; the networks may compute in fewer bits under a mixed precision policy.
      name: The prefix of the names of the ops.

    Returns:
      A bijector from z, `(H * W * C,)`, to x, `(H, W, C)`.

    Raises:
      ValueError: If `event_shape` is not `(H, W, C)` with sides divisible by `2 ** levels`, if `steps` or `levels` is
        below 1, or if `conditioner` is a layer.

    References:
      Kingma and Dhariwal 2018, "Glow: Generative flow with invertible 1x1 convolutions".
    """
    shape = as_shape(event_shape, "Glow: `event_shape`")
    check_image(shape, levels, "Glow")
    check_builder("Glow", "steps", steps, conditioner)
    if conditioner is None:
        conditioner = functools.partial(networks.ConvNet, hidden_units=hidden_units, dtype=networks.policy_for(dtype))

    def step(shape):
        options = dict(conditioner=conditioner, dtype=dtype, condition_shape=condition_shape)
        coupling = AffineCoupling(shape, additive=additive, **options)
        return FusedChain([ActNorm(shape, dtype), InvertibleLinear(shape, dtype), coupling], shape, name="step")

    def level(shape, remaining):
        squeeze = Squeeze(shape)
        shape = tuple(squeeze.latent_shape)
        flow = Steps(functools.partial(step, shape), steps, shape, recompute)
        return [squeeze, flow, factor_out_or_flatten(shape, remaining, level)]

    flow = level(shape, levels - 1)
    if quantization_levels is not None:
        flow = integer_preprocessing(shape, quantization_levels, dtype=dtype) + flow
    return FusedChain(flow, shape, name=name)
