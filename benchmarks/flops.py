"""Floating point operations of the matrix products and convolutions of a model, counted from its kernels' shapes."""

from benchmarks.cases import dimensions

TRAINING = 3  # the forward pass, the gradient of the inputs, the gradient of the kernels: as many each


def forward_flops(case) -> int:
    """FLOP for one input, from x to log p(x) and p(y|x); a multiplication and an addition are two."""
    head = dimensions(case) * case.outputs
    if case.family == "glow":
        return 2 * (head + sum(side**2 * case.steps * _glow_step(c, case.hidden) for side, c in case.level_shapes))
    half = case.features // 2
    network = half * case.hidden + case.hidden**2 + case.hidden * case.features
    return 2 * (head + case.couplings * network)


def _glow_step(channels, hidden):
    network = 9 * (channels // 2) * hidden + hidden**2 + 9 * hidden * channels
    return channels**2 + network
