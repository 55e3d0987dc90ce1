"""Who is measured: a module here for each package, named after it.

Each has `build(case, work, variant, data) -> Work`.
"""

import dataclasses
import importlib.util
from collections.abc import Callable

COMPARED_WORKS = {
    "step": "a hybrid training step: log p(y|x) + lambda log p(x), Adam, the loss fetched",
    "density": "log p(x) and p(y|x) of a batch, without gradients",
    "sample": "a batch of samples of p(x)",
}
LEARNING_RATE = 1e-3
VARIANTS = {
    "tfp_hybrid": ("graph", "xla"),
    "tensorflow_probability": ("graph", "xla"),
    "normflows": ("eager", "compile"),
    "nflows": ("eager", "compile"),
    "zuko": ("eager", "compile"),
    "flowjax": ("jit",),
    "jax": ("jit",),
}
OURS = "tfp_hybrid"
NEEDED = {"jax": ("optax",), "flowjax": ("optax",)}
VECTORS_ONLY = ("nflows", "zuko", "flowjax")
NOT_WRITTEN = {"jax": ("neural_spline", "autoregressive")}  # families, by package


@dataclasses.dataclass
class Work:
    """One contestant's work on one case, ready to be called again and again.

    Args:
      call: does it once, fetches the result, and returns a number of it, which must be finite.
      items: rows or images in a call.
      parameters: trainable numbers of the model.
    """

    call: Callable[[], float]
    items: int
    parameters: int


def entries(case, work: str, libraries) -> list[tuple[str, str]]:
    """(library, variant) of all who take part in a work on a case; autoregressive flows are not sampled."""
    if case.family == "autoregressive" and work == "sample":
        return []
    return [
        (library, variant)
        for library in libraries
        if case.family != "glow" or library not in VECTORS_ONLY
        if case.family not in NOT_WRITTEN.get(library, ())
        for variant in VARIANTS[library]
    ]


def missing(library: str) -> str | None:
    """Returns why a library cannot take part, or None."""
    absent = [name for name in (library, *NEEDED.get(library, ())) if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed" if absent else None
