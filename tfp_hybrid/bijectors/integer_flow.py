"""`IntegerFlow`, a builder of flows from integers to integers, for vectors and images."""

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow_probability as tfp

from tfp_hybrid import networks
from tfp_hybrid.arguments import as_shape, check_count
from tfp_hybrid.bijectors.chain import FusedChain
from tfp_hybrid.bijectors.coupling import Coupling
from tfp_hybrid.bijectors.factor_out import FactorOut
from tfp_hybrid.bijectors.lattice import LATTICE_RANGE, Lattice
from tfp_hybrid.bijectors.multi_scale import check_builder, check_image
from tfp_hybrid.bijectors.squeeze import Squeeze
from tfp_hybrid.bijectors.steps import Steps
from tfp_hybrid.bijectors.transformers import Rounded

tfb = tfp.bijectors


def IntegerFlow(
    event_shape: int | tuple[int, ...],
    *,
    steps: int = 4,
    levels: int = 2,
    hidden_units: int = 64,
    conditioner: Callable | None = None,
    quantization_levels: int = 256,
    recompute: bool = False,
    condition_shape: int | tuple[int, ...] | None = None,
    dtype: str = "float32",
    name: str = "integer_flow",
) -> FusedChain:
    """Builds an integer discrete flow: log P(x) = log P(z) of integers x, without dequantization and Jacobian.

    `Lattice` makes the integers multiples of a step, and all that follows maps multiples of the step to such multiples.
    A step of the flow is a coupling, z_b = x_b - round(t(z_a)), with gradients that pass the rounding, and a fixed
    permutation of the features or channels. P(z) must be one of such multiples, `latents.LatticeMixture`.

    For images, each level is a squeeze, `steps` steps, and factoring out three quarters of the channels, a quarter at a
    time; for vectors, `steps` steps and factoring out half of the entries. What is factored out has a P that is a
    function of all deeper levels. The latent z is a flat vector.

    Args:
      event_shape: `(d,)` with d >= `2 ** levels`, or `(H, W, C)` with sides divisible by `2 ** levels`.
      steps: The number of steps on each level.
      levels: The number of scales.
      hidden_units: The width of each coupling's `networks.ResNet`.
      conditioner: A function `(input_shape, units) -> keras layer` in place of these networks; see `Coupling`. Its
        inputs are scaled to about [0, 2), and an output of 1 moves an entry by an eighth of the range.
      quantization_levels: The data are integers 0 .. quantization_levels-1.
      recompute: Whether to save memory in training by recomputing activations instead of storing them; see `Steps`.
      condition_shape: The shape of the condition c, for P(x | c), as for `Coupling`; None for P(x). The couplings see
        c; the P(z) of a model does not.
      dtype: The dtype of the weights and values; the networks may compute in fewer bits under a mixed precision policy.
      name: The prefix of the names of the ops.

    Returns:
      A bijector from z to x; z is a vector with as many entries as x.

    Raises:
      ValueError: If the event cannot be split, if `steps` or `levels` is below 1, if `quantization_levels` is below 2,
        or if `conditioner` is a layer.

    References:
      Hoogeboom, Peters, van den Berg and Welling 2019, "Integer Discrete Flows and Lossless Compression".

    Example:

    >>> flow = bijectors.IntegerFlow((2,), levels=1, quantization_levels=16)
    >>> flow.inverse_and_log_det(tf.constant([[3, 15]]))[1].numpy()
    array([0.], dtype=float32)
    """
    shape = as_shape(event_shape, "IntegerFlow: `event_shape`")
    vector = len(shape) == 1
    check_builder("IntegerFlow", "steps", steps, conditioner)
    if vector:
        _check_vector(shape, levels)
    else:
        check_image(shape, levels, "IntegerFlow")
    lattice = Lattice(shape, quantization_levels, dtype)
    if conditioner is None:
        conditioner = functools.partial(networks.ResNet, hidden_units=hidden_units, dtype=networks.policy_for(dtype))

    def scaled(passing, shape, units):
        scales = [2 / LATTICE_RANGE] * passing + [1.0] * (shape[-1] - passing)  # a condition stays as it is
        parts = [keras.layers.Rescaling(scales), conditioner(shape, units)]
        return keras.Sequential([keras.Input(shape), *parts, keras.layers.Rescaling(LATTICE_RANGE / 8)])

    def step(shape):
        options = dict(conditioner=functools.partial(scaled, shape[-1] // 2), condition_shape=condition_shape)
        coupling = Coupling(shape, Rounded(lattice.step), dtype=dtype, **options)
        return FusedChain([coupling, tfb.Permute(_cycle(shape[-1]))], shape, name="step")

    def factored(shape, sizes, remaining):
        """Factors out so many channels, first to last; the rest goes to the next level, or is the deepest one."""
        if sizes:
            kept = (*shape[:-1], shape[-1] - sizes[0])
            return [FactorOut(FusedChain(factored(kept, sizes[1:], remaining), kept), shape, kept[-1])]
        if remaining:
            return level(shape, remaining - 1)
        return [] if vector else [tfb.Reshape(event_shape_out=shape, event_shape_in=(int(np.prod(shape)),))]

    def level(shape, remaining):
        squeeze = [] if vector else [Squeeze(shape)]
        shape = shape if vector else tuple(squeeze[0].latent_shape)
        sizes = ([shape[0] // 2] if remaining else []) if vector else 3 * [shape[-1] // 4]
        flow = Steps(functools.partial(step, shape), steps, shape, recompute)
        return [*squeeze, flow, *factored(shape, sizes, remaining)]

    return FusedChain([lattice, *level(shape, levels - 1)], shape, name=name)


def _check_vector(shape, levels):
    check_count(levels, "IntegerFlow: `levels`")
    if shape[0] < 2**levels:
        raise ValueError(
            f"IntegerFlow: `event_shape` is {shape} and `levels` is {levels}; wanted at least {2**levels} entries, "
            "since each level passes on half of its entries, and a coupling needs two."
        )


def _cycle(size: int) -> np.ndarray:
    """Returns a permutation of one cycle, the same at each call: repeated, it takes an entry to every place."""
    order = np.random.default_rng(0).permutation(size)
    permutation = np.empty(size, int)
    permutation[order] = np.roll(order, 1)
    return permutation
