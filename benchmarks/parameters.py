"""Checks that all contestants are the same model, by their exact numbers of trainable parameters."""

from benchmarks.cases import dimensions

# How many numbers a package stores for the c x c matrix of an invertible 1x1 convolution.
LINEAR_STORAGE = {
    "tfp_hybrid": lambda c: 2 * c * c + c,  # L and U as full matrices, of which one triangle is used, and the diagonal
    "normflows": lambda c: 2 * c * c + c,  # the same
    "jax": lambda c: 2 * c * c + c,  # the same
    "tensorflow_probability": lambda c: c * c,  # L, U and the diagonal packed in one matrix
}

# How many numbers describe a spline of K bins: widths, heights, and the slopes of the inner knots.
SPLINE_PARAMETERS = {"flowjax": lambda bins: 3 * bins + 1}  # its outer knots have trained slopes, too


def expected_parameters(case, library: str) -> int:
    """Returns the number of trainable parameters of a case's flow and head, as `library` stores them.

    Each coupling or step has an ActNorm (a shift and a scale per channel) and a network with biases; Glow also has an
    invertible 1x1 convolution. Only the storage of the latter and the splines of flowjax differ between packages. The
    masks of an autoregressive network are not counted: its matrices are stored whole.
    """
    head = (dimensions(case) + 1) * case.outputs
    if case.family == "glow":
        steps = (_glow_step(channels, case.hidden, library) for _, channels in case.level_shapes)
        return case.steps * sum(steps) + head
    if case.family == "autoregressive":
        return case.steps * _vector_step(case, seen=case.features, outputs=2 * case.features) + head
    for_each = 2
    if case.family == "neural_spline":
        for_each = SPLINE_PARAMETERS.get(library, lambda bins: 3 * bins - 1)(case.bins)
    half = case.features // 2
    return case.couplings * _vector_step(case, seen=half, outputs=for_each * (case.features - half)) + head


def check_parameters(case, library: str, counted: int):
    """Raises ValueError unless a contestant has the number of trainable parameters of the architecture."""
    expected = expected_parameters(case, library)
    if counted != expected:
        raise ValueError(f"{library}, {case}: {counted} trainable parameters; wanted {expected}: not the same model.")


def _glow_step(channels, hidden, library):
    half = channels // 2
    network = (9 * half + 1) * hidden + (hidden + 1) * hidden + (9 * hidden + 1) * channels
    return 2 * channels + LINEAR_STORAGE[library](channels) + network


def _vector_step(case, seen, outputs):
    hidden = case.hidden
    return 2 * case.features + (seen + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * outputs
