"""The cases that are measured: the models' sizes and their data."""

import dataclasses
import math
from typing import ClassVar

import numpy as np

BATCHES = 16  # number of batches of data, through which every contestant cycles
MATMUL_SIZE = 2048  # rows and columns of a large matrix product


@dataclasses.dataclass(frozen=True)
class Glow:
    """A Glow of square images with a linear head for ten classes.

    Args:
      side: Height and width of the images in pixels.
      channels: Number of channels of the images.
      levels: Number of scales.
      steps: Steps of flow on each level.
      hidden: Channels of the two hidden layers of each coupling's network.
      batch: Number of images per call.
      generative_weight: lambda, the weight of log p(x) in nats per dimension.
      recompute: Whether to train without storing the steps' activations; only for tfp_hybrid.
    """

    side: int = 28
    channels: int = 1
    levels: int = 2
    steps: int = 8
    hidden: int = 64
    batch: int = 128
    generative_weight: float = 1.0
    recompute: bool = False

    family: ClassVar[str] = "glow"
    classes: ClassVar[int] = 10
    outputs: ClassVar[int] = classes

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.side, self.side, self.channels

    @property
    def level_shapes(self) -> list[tuple[int, int]]:
        """Side and channels of the images on each level, after the squeeze."""
        return [(self.side >> level, self.channels << (level + 1)) for level in range(1, self.levels + 1)]

    def labels(self, rng, size):
        """Returns random labels, int32."""
        return rng.integers(self.classes, size=size).astype("int32")

    def __str__(self):
        return (
            f"Glow {self.side}x{self.side}x{self.channels}, {self.levels} levels x {self.steps} steps, "
            f"{self.hidden} hidden, batch {self.batch}"
        )


class Vectors:
    """What the cases of vectors share: a heteroscedastic Gaussian head, linear in z."""

    outputs: ClassVar[int] = 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return (self.features,)

    def labels(self, rng, size):
        """Returns random responses, float32."""
        return rng.normal(size=size).astype("float32")


@dataclasses.dataclass(frozen=True)
class RealNVP(Vectors):
    """A RealNVP: an ActNorm and an affine coupling, again and again, which alternate between the halves.

    Args:
      features: Size of an input.
      couplings: Number of couplings.
      hidden: Units of the two hidden ReLU layers of each coupling's network.
      batch: Number of rows per call.
      generative_weight: lambda, the weight of log p(x) in nats per dimension.
    """

    features: int = 8
    couplings: int = 8
    hidden: int = 64
    batch: int = 1024
    generative_weight: float = 1.0

    family: ClassVar[str] = "real_nvp"

    def __str__(self):
        return (
            f"RealNVP {self.features} inputs, {self.couplings} couplings, 2 x {self.hidden} hidden, batch {self.batch}"
        )


@dataclasses.dataclass(frozen=True)
class NeuralSpline(Vectors):
    """As `RealNVP`, with rational-quadratic splines on [-bound, bound] instead of affine maps, the identity outside.

    Args:
      features, couplings, hidden, batch, generative_weight: As for `RealNVP`.
      bins: Number of pieces of each spline.
    """

    features: int = 8
    couplings: int = 8
    bins: int = 8
    hidden: int = 64
    batch: int = 1024
    generative_weight: float = 1.0

    family: ClassVar[str] = "neural_spline"
    bound: ClassVar[float] = 4.0

    def __str__(self):
        return (
            f"Neural spline flow {self.features} inputs, {self.couplings} couplings, {self.bins} bins, "
            f"2 x {self.hidden} hidden, batch {self.batch}"
        )


@dataclasses.dataclass(frozen=True)
class Autoregressive(Vectors):
    """A masked autoregressive flow: an ActNorm and an affine step, again and again, in alternating orders.

    Args:
      features: Size of an input.
      steps: Number of steps.
      hidden: Units of the two hidden ReLU layers of each step's MADE.
      batch, generative_weight: As for `RealNVP`.
    """

    features: int = 8
    steps: int = 5
    hidden: int = 64
    batch: int = 1024
    generative_weight: float = 1.0

    family: ClassVar[str] = "autoregressive"

    def __str__(self):
        return (
            f"Autoregressive flow {self.features} inputs, {self.steps} steps, 2 x {self.hidden} hidden, "
            f"batch {self.batch}"
        )


FAMILIES = {family.family: family for family in (Glow, RealNVP, NeuralSpline, Autoregressive)}
CASES = {
    "glow_64": Glow(),
    "glow_128": Glow(hidden=128),
    "glow_rgb": Glow(side=32, channels=3, levels=3),
    "real_nvp_1024": RealNVP(),
    "real_nvp_4096": RealNVP(batch=4096),
    "neural_spline_1024": NeuralSpline(),
    "autoregressive_1024": Autoregressive(),
}
QUICK_CASES = {
    "glow": Glow(side=8, steps=1, hidden=4, batch=4),
    "real_nvp": RealNVP(features=4, couplings=2, hidden=8, batch=8),
    "neural_spline": NeuralSpline(features=4, couplings=2, bins=4, hidden=8, batch=8),
    "autoregressive": Autoregressive(features=4, steps=3, hidden=8, batch=8),
}


def dimensions(case) -> int:
    """Returns the number of dimensions of an input, and of its latent."""
    return math.prod(case.shape)


def batches(case, seed: int):
    """Returns `BATCHES` batches of random inputs and labels, the same for all contestants.

    Returns:
      A pair of x, float32 `(BATCHES, batch, *shape)`, uniform images or normal vectors; and y, `(BATCHES, batch)`.
    """
    rng = np.random.default_rng(seed)
    draw = rng.uniform if case.family == "glow" else rng.normal
    x = draw(size=(BATCHES, case.batch, *case.shape)).astype("float32")
    return x, case.labels(rng, (BATCHES, case.batch))


def to_json(case) -> dict:
    """Returns a case as a dictionary, including its family."""
    return {"family": case.family, **dataclasses.asdict(case)}


def from_json(fields: dict):
    """Returns the case from a dictionary of `to_json`."""
    fields = dict(fields)
    return FAMILIES[fields.pop("family")](**fields)
