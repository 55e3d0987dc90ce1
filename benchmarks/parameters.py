"""Are the contestants the same model? How many numbers each must train, exactly."""

from benchmarks.cases import dimensions

# What a package stores for the c x c matrix of an invertible 1x1 convolution.
LINEAR_STORAGE = {
    "tfp_hybrid": lambda c: 2 * c * c + c,  # L and U as whole matrices, of which a triangle is used; the diagonal
    "normflows": lambda c: 2 * c * c + c,  # the same
    "tensorflow_probability": lambda c: c * c,  # L, U and the diagonal packed in one matrix
}


def expected_parameters(case, library: str) -> int:
    """Trainable numbers of a case's architecture, flow and head, as `library` stores them.

    All have, for each coupling, an ActNorm of its channels (a shift and a scale each) and a network with biases; Glow
    has an invertible 1x1 convolution, too. Only the storage of the latter differs.
    """
    head = (dimensions(case) + 1) * case.outputs
    if case.family == "glow":
        steps = (_glow_step(channels, case.hidden, library) for _, channels in case.level_shapes)
        return case.steps * sum(steps) + head
    return case.couplings * _real_nvp_coupling(case.features, case.hidden) + head


def check_parameters(case, library: str, counted: int):
    """Raises ValueError unless a contestant has as many trainable numbers as the architecture asks for."""
    expected = expected_parameters(case, library)
    if counted != expected:
        raise ValueError(f"{library}, {case}: {counted} trainable parameters; wanted {expected}: not the same model.")


def _glow_step(channels, hidden, library):
    half = channels // 2
    network = (9 * half + 1) * hidden + (hidden + 1) * hidden + (9 * hidden + 1) * channels
    return 2 * channels + LINEAR_STORAGE[library](channels) + network


def _real_nvp_coupling(features, hidden):
    half = features // 2
    return 2 * features + (half + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * features
