"""The command line: `tfp-hybrid train`, `evaluate`, `score`, `drift`, `reproduce`."""

import contextlib
import dataclasses
import pathlib
import signal
import threading
from typing import Annotated

import rich.console
import rich.markup
import rich.table
import typer

app = typer.Typer(
    name="tfp-hybrid",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Deep invertible generalized linear models: p(y|x) and p(x) from one flow.",
)
OOD_HELP = "An out-of-distribution set: a data set, or noise, inverted, rotated, shuffled. Repeatable."
JSON_HELP = 'Infinite numbers, which JSON lacks, are the strings "Infinity" and "-Infinity", and NaN is "NaN".'
DatasetName = Annotated[str, typer.Argument(help="digits, mnist, fashion_mnist, flights or simulation.")]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(help="Where data sets lie; by default $TFDS_DATA_DIR, else ~/tensorflow_datasets."),
]
ModelPath = Annotated[pathlib.Path, typer.Argument(help="The folder of a run, or a saved model or rejector.")]


@app.command(
    epilog="Examples:\n\n"
    "  tfp-hybrid train digits --out runs/digits\n\n"
    "  tfp-hybrid train mnist --epochs 1 --ood not_mnist --ood noise --out runs/mnist\n\n"
    "  tfp-hybrid train digits --generative-weight 0 --out runs/discriminative"
)
def train(
    dataset: DatasetName,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the results; new or empty.")],
    generative_weight: Annotated[
        float | None, typer.Option(help="lambda, on log p(x) in nats (eq. 5 of the paper); 0: a plain classifier.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows in a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the cosine schedule.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random number.")] = 0,
    ood: Annotated[list[str] | None, typer.Option(help=OOD_HELP)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")] = False,
    data_dir: DataDir = None,
):
    """Trains a model; writes model.keras, rejector.keras, metrics.json, history.csv and report.html.

    What is not given follows the data set's recipe.
    """
    with _errors(lambda: _how_to_continue(out)):
        from tfp_hybrid.experiments import training

        config = training.Config(
            dataset=dataset,
            generative_weight=generative_weight,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            ood=tuple(ood) if ood else None,
            data_dir=str(data_dir) if data_dir else None,
        )
        metrics = training.train(config, out, resume)
    _print_metrics(metrics)
    rich.console.Console().print(f"{metrics['seconds']:.0f} s. Report: {out / training.REPORT}", highlight=False)


@app.command(
    epilog="Examples:\n\n"
    "  tfp-hybrid evaluate runs/digits digits --ood inverted\n\n"
    "  tfp-hybrid evaluate runs/mnist mnist --ood not_mnist --ood rotated --pictures runs/mnist/pictures\n\n"
    "  tfp-hybrid evaluate runs/mnist fashion_mnist --json"
)
def evaluate(
    model: ModelPath,
    dataset: DatasetName,
    ood: Annotated[list[str] | None, typer.Option(help=OOD_HELP)] = None,
    other: Annotated[
        list[pathlib.Path] | None,
        typer.Option(help="A run of the same data set from another seed, for the score WAIC. Repeatable."),
    ] = None,
    likelihood_ratio: Annotated[
        bool, typer.Option("--likelihood-ratio", help="Also this score; trains a background model, for two epochs.")
    ] = False,
    pictures: Annotated[
        pathlib.Path | None, typer.Option(help="Folder for histograms, ROC, risk-coverage, reliability, ...")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help=f"Print JSON instead of tables. {JSON_HELP}")] = False,
    data_dir: DataDir = None,
):
    """Prints a trained model's metrics on the test rows of a data set, and how well each score finds foreign inputs."""
    with _errors():
        from tfp_hybrid import checks, datasets, strict_json
        from tfp_hybrid.experiments import detection_report, evaluation, outliers, scoring
        from tfp_hybrid.uncertainty import LikelihoodRatio

        if pictures is not None and pictures.exists() and not pictures.is_dir():
            raise ValueError(f"--pictures {pictures} is a file; wanted a folder.")
        loaded, trained = scoring.load_model(model)
        seed = trained.get("config", {}).get("seed", 0)
        data = datasets.load(dataset, data_dir=data_dir, seed=seed)
        checks.check_inputs(data.test[0], loaded.distribution)
        checks.check_labels(data.test[1], loaded.head)
        foreign = {name: outliers.load_outliers(name, data, data_dir, seed) for name in ood or ()}
        others = [scoring.load_model(path)[0] for path in other or ()]
        ratio = LikelihoodRatio() if likelihood_ratio else None
        test, outside, table = detection_report.measure(loaded, data, foreign, others, ratio)
        metrics = {
            "test": evaluation.test_metrics(loaded, test, data.test[1]),
            "ood": {name: evaluation.ood_metrics(test, answers) for name, answers in outside.items()},
            "scores": {name: table.loc[name].to_dict("index") for name in foreign},
        }
        if pictures is not None:
            detection_report.draw(pictures, loaded, data, test, outside, table)
    if as_json:
        print(strict_json.dumps(metrics))
    else:
        _print_metrics(metrics)
        if foreign:
            _print_scores(metrics["scores"])


@app.command(
    epilog="Examples:\n\n"
    "  tfp-hybrid score runs/digits new_images.npz\n\n"
    "  tfp-hybrid score runs/flights today.csv --out scores.csv --abstain-below 5"
)
def score(
    model: ModelPath,
    file: Annotated[pathlib.Path, typer.Argument(help="Inputs: .npz with an array x, .csv or .parquet.")],
    out: Annotated[
        pathlib.Path | None, typer.Option(help="A .csv or .parquet file; by default CSV is printed.")
    ] = None,
    abstain_below: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Abstain when fewer per cent of held-out rows are as foreign; by default the rejector's threshold, 1 "
            "after `train`.",
        ),
    ] = None,
):
    """For each row: the prediction, its uncertainty, log p(x), its percentile among held-out training rows, abstain."""
    with _errors():
        from tfp_hybrid.experiments import scoring

        if out is not None and out.suffix not in (".csv", ".parquet"):
            raise ValueError(f"--out {out} ends in {out.suffix!r}; wanted .csv or .parquet.")
        if out is not None and not out.parent.is_dir():
            raise ValueError(f"--out {out}: there is no folder {out.parent}.")
        loaded, metrics = scoring.load_model(model)
        rejector = scoring.load_rejector(model, loaded)
        if rejector is None and abstain_below is not None:
            raise ValueError(f"{model} has no rejector, which --abstain-below wants: a run's folder has one.")
        x = scoring.read_inputs(file, loaded, metrics.get("feature_names"))
        table = scoring.score(loaded, x, rejector, abstain_below)
        if out is None:
            print(table.to_csv(index=False, float_format="%.6g"), end="")
        elif out.suffix == ".csv":
            table.to_csv(out, index=False)
        else:
            table.to_parquet(out, index=False)


@app.command(
    epilog="Examples:\n\n"
    "  tfp-hybrid drift runs/flights today.parquet\n\n"
    "  tfp-hybrid drift runs/digits new_images.npz --picture drift.png --json"
)
def drift(
    model: ModelPath,
    file: Annotated[pathlib.Path, typer.Argument(help="Inputs: .npz with an array x, .csv or .parquet.")],
    significance: Annotated[
        float, typer.Option(min=0, max=1, help="The false-alarm rate: a lower p-value is called drift.")
    ] = 0.05,
    picture: Annotated[pathlib.Path | None, typer.Option(help="A .png, .svg or .pdf of the two distributions.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help=f"Print JSON instead of a table. {JSON_HELP}")] = False,
):
    """Tests whether a file's inputs, as a whole, look like held-out training rows.

    By the rejector's score of each: -log p(x), after `train`. KS compares the distributions, typicality the means.

    The tests see scores only. Inputs of another population that are as likely pass: "no" means as likely as the
    held-out rows, not the same.
    """
    with _errors():
        from tfp_hybrid import strict_json
        from tfp_hybrid.experiments import scoring
        from tfp_hybrid.uncertainty import drift as drifting
        from tfp_hybrid.uncertainty import pictures

        if picture is not None and picture.suffix not in (".png", ".svg", ".pdf"):
            raise ValueError(f"--picture {picture} ends in {picture.suffix!r}; wanted .png, .svg or .pdf.")
        if picture is not None and not picture.parent.is_dir():
            raise ValueError(f"--picture {picture}: there is no folder {picture.parent}.")
        loaded, metrics = scoring.load_model(model)
        rejector = scoring.load_rejector(model, loaded)
        if rejector is None:
            raise ValueError(f"{model} has no rejector with a reference; wanted a run's folder, or a saved Rejector.")
        x = scoring.read_inputs(file, loaded, metrics.get("feature_names"))
        new = rejector.score.score(loaded, x)
        tests = [drifting.ks_test(rejector.reference, new), drifting.typicality_test(rejector.reference, new)]
        if picture is not None:
            pictures.drift_picture(rejector.reference, new, rejector.score.title).savefig(picture)
    if as_json:
        results = [dataclasses.asdict(test) | {"drifted": test.drifted(significance)} for test in tests]
        print(strict_json.dumps({"reference_rows": len(rejector.reference), "rows": len(new), "tests": results}))
        return
    title = f"{len(new):,} inputs against {len(rejector.reference):,} held-out ones, by {rejector.score.title}"
    table = rich.table.Table("test", title=title, caption=drifting.BLIND_SPOT)
    for name in ("statistic", "p-value", "effect size", "drift"):
        table.add_column(name, justify="right")
    for test in tests:
        numbers = (f"{test.statistic:.4f}", f"{test.p_value:.4g}", f"{test.effect_size:+.3f}")
        table.add_row(test.name, *numbers, "yes" if test.drifted(significance) else "no")
    rich.console.Console().print(table)


@app.command(
    epilog="Examples:\n\n"
    "  tfp-hybrid reproduce simulation\n\n"
    "  tfp-hybrid reproduce mnist --quick\n\n"
    "  tfp-hybrid reproduce report --out results --markdown README.md"
)
def reproduce(
    experiment: Annotated[str, typer.Argument(help="simulation, mnist or flights; or report, of what is there.")],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for results; by default runs/reproduce, with --quick runs/reproduce_quick."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models on few rows, in a minute: a trial run.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="One model of the experiment, by name. Repeatable.")] = None,
    markdown: Annotated[
        pathlib.Path | None,
        typer.Option(help="A file whose lines from <!-- results --> to <!-- /results --> become the tables."),
    ] = None,
    data_dir: DataDir = None,
):
    """Runs an experiment of the paper; writes a JSON file a model, pictures, and report.html of all experiments.

    The same line again goes on after an interruption. Models that have a result are not trained again.
    """
    with _errors(lambda: "Run the same command again to continue."):
        from tfp_hybrid.experiments.reproduce import reporting, results

        known = (*reporting.EXPERIMENTS, "report")
        if experiment not in known:
            raise ValueError(f"Unknown experiment {experiment!r}; wanted one of {', '.join(known)}.")
        if experiment == "report" and (quick or only or data_dir):
            raise ValueError("`report` shows what is there: it takes neither --quick, --only nor --data-dir.")
        if quick and markdown is not None:
            raise ValueError("--quick is a trial run: its tables are not for a file that is kept.")
        out = out or pathlib.Path("runs/reproduce_quick" if quick else "runs/reproduce")
        results.check_folder(out / experiment)
        if markdown is not None:
            reporting.check_markdown(markdown)
        if experiment != "report":
            command = f"tfp-hybrid reproduce {experiment}{' --quick' if quick else ''}"
            place = results.Place(out / experiment, command, quick)
            place.obtain(reporting.EXPERIMENTS[experiment].jobs(place, data_dir), only or ())
        shown, lacking = reporting.tables(out), reporting.lacking(out)
        if experiment == "report" and not shown:
            raise ValueError(f"--out {out} has no results to show; wanted that of an earlier `tfp-hybrid reproduce`.")
        report = reporting.write(out) if shown else None
        if markdown is not None and shown:
            reporting.insert(out, markdown)
    console = rich.console.Console()
    for name, tables in shown.items():
        if experiment in (name, "report"):
            for table in tables:
                console.print(table.rich())
                if table.note:
                    console.print(table.note, highlight=False, markup=False)
    for name, names in lacking.items():
        console.print(f"{name} is not shown yet: it lacks {', '.join(names)}.", highlight=False)
    if report is not None:
        console.print(f"Report: {report}", highlight=False)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which then saves and ends what it interrupts as Ctrl-C does."""


@contextlib.contextmanager
def _errors(how_to_continue=lambda: ""):
    """A user's mistakes as one line on the error stream, with exit status 1; signals likewise, with 130 and 143.

    Args:
      how_to_continue: returns what to say after an interruption.
    """
    console = rich.console.Console(stderr=True)
    try:
        with _sigterm_raised():
            yield
    except KeyboardInterrupt as signal_received:
        terminated = isinstance(signal_received, _Terminated)
        said = f"{'Terminated' if terminated else 'Interrupted'}. {how_to_continue()}"
        console.print(rich.markup.escape(said.strip()), soft_wrap=True, highlight=False)
        raise typer.Exit(143 if terminated else 130) from None
    except (ValueError, ConnectionError, FloatingPointError, ImportError, OSError) as error:
        console.print(f"[bold red]Error:[/] {rich.markup.escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None


@contextlib.contextmanager
def _sigterm_raised():
    """Raises `_Terminated` in the main thread on SIGTERM."""

    def terminate(number, frame):
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # Python lets only that one handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _how_to_continue(out):
    if (out / "config.json").exists():
        return "The last epoch is saved. Run the same command with --resume to continue."
    return "Nothing is saved yet. Run the same command again to start."


def _print_metrics(metrics):
    console = rich.console.Console()
    table = rich.table.Table(title="test rows")
    for name in metrics["test"]:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:.4f}" for value in metrics["test"].values()))
    console.print(table)
    if metrics["ood"]:
        table = rich.table.Table("", title="out-of-distribution, by -log p(x)")
        for name in ("auroc", "fpr95", "nll", "entropy"):
            table.add_column(name, justify="right")
        for name, row in metrics["ood"].items():
            table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in row.values()))
        console.print(table)


def _print_scores(sets):
    _print_by_score("AUROC of each score", "auroc", sets)
    if any("risk95" in row for rows in sets.values() for row in rows.values()):
        _print_by_score("errors among the 95 % kept of a half-and-half mix", "risk95", sets)


def _print_by_score(title, column, sets):
    table = rich.table.Table("score", title=title)
    for name in sets:
        table.add_column(name, justify="right")
    for score in next(iter(sets.values())):
        table.add_row(score, *(f"{rows[score][column]:.4f}" for rows in sets.values()))
    rich.console.Console().print(table)


if __name__ == "__main__":
    app()
