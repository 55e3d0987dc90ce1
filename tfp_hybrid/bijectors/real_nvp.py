"""`RealNVP`, a builder of flows for vectors and images."""

import functools
from collections.abc import Callable

from tfp_hybrid import networks
from tfp_hybrid.arguments import as_shape
from tfp_hybrid.bijectors.act_norm import ActNorm
from tfp_hybrid.bijectors.affine_coupling import AffineCoupling
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.multi_scale import check_builder, check_image, factor_out_or_flatten
from tfp_hybrid.bijectors.preprocessing import integer_preprocessing
from tfp_hybrid.bijectors.squeeze import Squeeze
from tfp_hybrid.bijectors.steps import Steps


def RealNVP(
    event_shape: int | tuple[int, ...],
    *,
    couplings: int = 8,
    levels: int = 2,
    hidden_units: int | tuple[int, ...] | None = None,
    conditioner: Callable | None = None,
    additive: bool = False,
    quantization_levels: int | None = None,
    recompute: bool = False,
    condition_shape: int | tuple[int, ...] | None = None,
    dtype: str = "float32",
    name: str = "real_nvp",
) -> FusedChain:
    """Builds a RealNVP for vectors, or a multi-scale one for images.

    For vectors, it has `couplings` affine couplings, which alternate between the halves of the features, with an
    ActNorm before each coupling. The first ActNorm, once adapted, standardizes the features.

    For images, each level has half of its couplings with checkerboard masks, a squeeze, and the other half with channel
    masks; then half of the channels are factored out. The latent z is a flat vector.

    Args:
      event_shape: `(d,)` with d >= 2, or `(H, W, C)` with sides divisible by `2 ** levels`.
      couplings: The number of couplings; for images, on each level.
      levels: The number of scales, for images only.
      hidden_units: The sizes of the hidden layers of each coupling's `networks.MLP`, by default (64, 64). For images,
        the width of each coupling's `networks.ResNet`, by default 64.
      conditioner: A function `(input_shape, units) -> keras layer` in place of these networks; see `AffineCoupling`.
      additive: Whether to use additive couplings instead of affine ones.
      quantization_levels: The data are integers 0 .. quantization_levels-1, which are dequantized; then images pass
        through a logit, and vectors are scaled. If None, the data are real numbers, used as they are.
      recompute: Whether to save memory in training by recomputing activations instead of storing them; see `Steps`.
      condition_shape: The shape of the condition c, for p(x | c), as for `Coupling`; None for p(x).
      dtype: The dtype of the weights and values; the networks may compute in fewer bits under a mixed precision policy.
      name: The prefix of the names of the ops.

    Returns:
      A bijector from z to x; z is a vector with as many entries as x.

    Raises:
      ValueError: If the event cannot be split, if `couplings` or `levels` is below 1, or if `conditioner` is a layer.

    References:
      Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation using Real NVP".
    """
    shape = as_shape(event_shape, "RealNVP: `event_shape`")
    vector = len(shape) == 1
    check_builder("RealNVP", "couplings", couplings, conditioner)
    if not vector:
        check_image(shape, levels, "RealNVP")
    if conditioner is None:
        if vector:
            network = networks.MLP
            hidden_units = (64, 64) if hidden_units is None else as_shape(hidden_units, "RealNVP: `hidden_units`")
        else:
            network, hidden_units = networks.ResNet, hidden_units or 64
        conditioner = functools.partial(network, hidden_units=hidden_units, dtype=networks.policy_for(dtype))

    def coupling(shape, mask, swap):
        options = dict(conditioner=conditioner, dtype=dtype, condition_shape=condition_shape)
        return [ActNorm(shape, dtype), AffineCoupling(shape, mask, swap, additive, **options)]

    def pair(shape, mask):
        return FusedChain(coupling(shape, mask, False) + coupling(shape, mask, True), shape, name="pair")

    def coupled(shape, count, mask):
        pairs = [Steps(functools.partial(pair, shape, mask), count // 2, shape, recompute)] if count > 1 else []
        return pairs + (coupling(shape, mask, False) if count % 2 else [])

    def level(shape, remaining):
        flow = coupled(shape, couplings - couplings // 2, "checkerboard") + [Squeeze(shape)]
        shape = tuple(flow[-1].latent_shape)
        flow += coupled(shape, couplings // 2, "channel")
        return flow + [factor_out_or_flatten(shape, remaining, level)]

    flow = coupled(shape, couplings, "channel") if vector else level(shape, levels - 1)
    if quantization_levels is not None:
        flow = integer_preprocessing(shape, quantization_levels, not vector, dtype) + flow
    return FusedChain(flow, shape, name=name)
