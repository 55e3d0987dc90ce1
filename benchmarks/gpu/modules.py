"""Which modules are exported, in the order of their importance."""

import dataclasses

from benchmarks import cases

OURS, STOCK = "tfp_hybrid", "tensorflow_probability"
FLOAT32, BFLOAT16 = "float32", "mixed_bfloat16"
GLOW_64 = cases.Glow()
GLOW_512 = cases.Glow(hidden=512)
RGB_64 = cases.Glow(side=32, channels=3, levels=3)
RGB_512 = cases.Glow(side=32, channels=3, levels=3, hidden=512)
REAL_NVP = cases.RealNVP()


@dataclasses.dataclass(frozen=True)
class Spec:
    """A module to export and measure.

    Args:
      case: a case of `benchmarks.cases`, with its batch.
      work: "step", "density" or "sample".
      policy: Keras dtype policy.
      library: whose model it is.
      checked: its results by TensorFlow are kept, to compare with.
      loops: how it is timed: "scan", or "python" and "scan", each of which compiles the module once.
    """

    case: object
    work: str = "step"
    policy: str = FLOAT32
    library: str = OURS
    checked: bool = False
    loops: tuple[str, ...] = ("scan",)

    @property
    def model(self) -> str:
        """Such as glow_28x28x1_64."""
        sizes = "x".join(map(str, self.case.shape))
        return f"{self.case.family}_{sizes}_{self.case.hidden}"

    @property
    def name(self) -> str:
        """Such as tfp_hybrid.glow_28x28x1_64.step.float32.128."""
        return f"{self.library}.{self.model}.{self.work}.{self.policy}.{self.case.batch}"


def _at(case, batch, *arguments, **options):
    return Spec(dataclasses.replace(case, batch=batch), *arguments, **options)


BOTH = ("python", "scan")
PYTHON = ("python",)
# Each list is one process's work, most important first.
GROUPS = {
    "main": [
        _at(GLOW_64, 128, checked=True, loops=BOTH),
        _at(GLOW_64, 1024, loops=BOTH),
    ],
    "wide": [
        _at(GLOW_512, 256, policy=BFLOAT16),
        _at(GLOW_512, 256, checked=True),
    ],
    "served": [
        _at(GLOW_64, 1024, "density", loops=PYTHON),
        _at(GLOW_64, 1024, "sample", loops=PYTHON),
    ],
    "glow": [
        _at(GLOW_64, 1024, policy=BFLOAT16),
        _at(GLOW_64, 128, "density", checked=True),
        _at(GLOW_64, 4096),
    ],
    "stock": [
        _at(GLOW_64, 128, library=STOCK),
        _at(GLOW_64, 1024, library=STOCK),
        _at(GLOW_64, 1024, "density", library=STOCK, loops=PYTHON),
        _at(GLOW_64, 1024, "sample", library=STOCK, loops=PYTHON),
    ],
    "real_nvp": [
        *(
            _at(REAL_NVP, batch, work, checked=work != "sample", loops=PYTHON if work == "sample" else BOTH)
            for batch in (1024, 16384)
            for work in ("step", "density", "sample")
        ),
        *(_at(REAL_NVP, batch, policy=BFLOAT16) for batch in (1024, 16384)),
        *(_at(REAL_NVP, batch, library=STOCK) for batch in (1024, 16384)),
    ],
    "rgb": [
        _at(RGB_512, 128, policy=BFLOAT16),
        _at(RGB_64, 256, checked=True),
        _at(RGB_64, 256, "density", loops=PYTHON),
        _at(RGB_64, 256, policy=BFLOAT16),
        _at(RGB_512, 128),
    ],
}
_TINY = cases.QUICK_CASES["glow"]
_TINY_NVP = cases.QUICK_CASES["real_nvp"]
QUICK_GROUPS = {
    "main": [Spec(_TINY, checked=True)],
    "glow": [Spec(_TINY, "sample")],
    "stock": [Spec(_TINY_NVP, "density", library=STOCK)],
    "real_nvp": [Spec(_TINY_NVP, checked=True, loops=("python",))],
}


def groups(quick: bool) -> dict[str, list[Spec]]:
    """The specs of each process."""
    return QUICK_GROUPS if quick else GROUPS
