"""`python -m benchmarks COMMAND`, from the root of the repository."""

import enum
import pathlib
from typing import Annotated

import typer

from benchmarks import cases, contestants
from benchmarks.export_stablehlo import export
from benchmarks.gpu.commands import app as gpu
from benchmarks.run import Run
from benchmarks.stream import stream

app = typer.Typer(
    name="python -m benchmarks",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Timings and memory of tfp_hybrid. On an otherwise idle machine; needs: pip install -e '.[bench]'.",
)
Work = enum.StrEnum("Work", list(contestants.COMPARED_WORKS))
Library = enum.StrEnum("Library", list(contestants.VARIANTS))
Out = Annotated[pathlib.Path, typer.Option(help="Folder for the JSON file and the picture.")]
Rounds = Annotated[int, typer.Option(min=1, help="In which each contestant has a turn, after one for warm-up.")]
Seconds = Annotated[float, typer.Option(help="Of a turn.")]
Seed = Annotated[int, typer.Option(help="Of the random data.")]
Quick = Annotated[bool, typer.Option("--quick", help="Tiny models and one short round: does it run?")]
RESULTS = pathlib.Path("benchmarks/results")


def _run(name, out, rounds, seconds, seed, quick):
    return Run(name, out, 1 if quick else rounds, 0.05 if quick else seconds, seed, quick)


@app.command()
def compare(
    only: Annotated[str, typer.Option(help="Cases whose name contains this, such as glow or real_nvp_1024.")] = "",
    work: Annotated[list[Work] | None, typer.Option(help="Only this work. Repeatable.")] = None,
    against: Annotated[list[Library] | None, typer.Option(help="Only against this package. Repeatable.")] = None,
    out: Out = RESULTS,
    rounds: Rounds = 5,
    seconds: Seconds = 3.0,
    seed: Seed = 0,
    quick: Quick = False,
):
    """tfp_hybrid against TFP's own flows, normflows, nflows and zuko: training steps, densities, samples.

    All have the same architecture, which their numbers of parameters must confirm.
    """
    from benchmarks.compare import compare

    known = cases.QUICK_CASES if quick else cases.CASES
    chosen = {name: case for name, case in known.items() if only in name}
    if not chosen:
        raise typer.BadParameter(f"no case's name contains {only!r}; there are {', '.join(known)}.")
    libraries = dict.fromkeys([contestants.OURS, *map(str, against)]) if against else contestants.VARIANTS
    works = list(map(str, work or contestants.COMPARED_WORKS))
    compare(_run("compare", out, rounds, seconds, seed, quick), chosen, works, list(libraries))


@app.command()
def overhead(out: Out = RESULTS, rounds: Rounds = 5, seconds: Seconds = 3.0, seed: Seed = 0, quick: Quick = False):
    """What p(x) adds to a step, what `fit` adds to a bare one, how near it all is to a matrix product; first steps."""
    from benchmarks.overhead import overhead

    overhead(_run("overhead", out, rounds, seconds, seed, quick))


@app.command()
def memory(out: Out = RESULTS, rounds: Rounds = 5, seconds: Seconds = 3.0, seed: Seed = 0, quick: Quick = False):
    """Memory of a training step with and without `recompute`, against the depth; what that costs in time."""
    from benchmarks.memory import memory

    memory(_run("memory", out, rounds, seconds, seed, quick))


@app.command()
def growth(out: Out = RESULTS, rounds: Rounds = 5, seconds: Seconds = 3.0, seed: Seed = 0, quick: Quick = False):
    """Time of a training step against depth, width, side and batch: the exponents."""
    from benchmarks.growth import growth

    growth(_run("growth", out, rounds, seconds, seed, quick))


@app.command()
def scoring(out: Out = RESULTS, rounds: Rounds = 5, seed: Seed = 0, quick: Quick = False):
    """Time of each out-of-distribution score, of all at once, and of a rejector, against that of `predict`."""
    from benchmarks.scoring import scoring

    scoring(_run("scoring", out, rounds, 0.0, seed, quick))


@app.command()
def checking(out: Out = RESULTS, rounds: Rounds = 5, seed: Seed = 0, quick: Quick = False):
    """Time of the checks of inputs against that of `predict`."""
    from benchmarks.checking import checking

    checking(_run("checking", out, rounds, 0.0, seed, quick))


app.command()(stream)
app.command()(export)
app.add_typer(gpu, name="gpu")


if __name__ == "__main__":
    app()
