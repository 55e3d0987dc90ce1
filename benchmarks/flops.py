"""Counts the floating point operations of a model's matrix products and convolutions from its kernels' shapes."""

from benchmarks.cases import dimensions

TRAINING = 3  # the forward pass, the gradient of the inputs and the gradient of the kernels take the same number


def forward_flops(case) -> int:
    """Returns the FLOP for one input, from x to log p(x) and p(y|x); a multiply-add counts as two."""
    head = dimensions(case) * case.outputs
    if case.family == "glow":
        return 2 * (head + sum(side**2 * case.steps * _glow_step(c, case.hidden) for side, c in case.level_shapes))
    half = case.features // 2
    network = half * case.hidden + case.hidden**2 + case.hidden * case.features
    return 2 * (head + case.couplings * network)


def _glow_step(channels, hidden):
    network = 9 * (channels // 2) * hidden + hidden**2 + 9 * hidden * channels
    return channels**2 + network
