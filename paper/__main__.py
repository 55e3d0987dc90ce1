"""The command line: `python -m paper simulation`, `mnist`, `mnist_density`, `flights`, `adbench`, `uci` or `report`."""

import pathlib
from typing import Annotated

import rich.console
import typer

from tfp_hybrid.console import errors

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
EXAMPLES = """Examples:

  python -m paper simulation

  python -m paper mnist --quick

  python -m paper uci --only yacht --data-dir ../shared/data/uci

  python -m paper adbench --only letter

  python -m paper report --out paper/results --markdown docs/paper.md
"""


@app.command(no_args_is_help=True, epilog=EXAMPLES)
def run(
    experiment: Annotated[
        str,
        typer.Argument(
            help="simulation, mnist, mnist_density, flights, adbench or uci; or report, for existing results."
        ),
    ],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder for results; defaults to runs/reproduce, or runs/reproduce_quick with --quick."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Make a trial run of a minute: tiny models on few rows.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Run only this model of the experiment, or this set of adbench or uci. Repeatable."),
    ] = None,
    markdown: Annotated[
        pathlib.Path | None,
        typer.Option(help="File in which the tables replace the text between <!-- results --> and <!-- /results -->."),
    ] = None,
    data_dir: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Folder of the data sets; defaults to $TFDS_DATA_DIR, or else ~/tensorflow_datasets; for adbench, to "
            "../shared/data/adbench beside the repository."
        ),
    ] = None,
):
    """Runs an experiment of the paper, and writes a JSON file for each model, pictures, and report.html.

    `uci` writes uci.csv, uci.md and a picture instead; its --data-dir is the folder of the nine sets.

    Run the same command again to resume after an interruption. Models that have a result are not trained again.
    """
    with errors(lambda: "Run the same command again to resume."):
        from paper import reporting, results
        from tfp_hybrid import files
        from tfp_hybrid.commands import tables

        known = (*reporting.EXPERIMENTS, "uci", "report")
        if experiment not in known:
            raise ValueError(f"The experiment {experiment!r} is unknown; wanted one of {', '.join(known)}.")
        if experiment == "report" and (quick or only or data_dir):
            raise ValueError("`report` shows existing results; it takes neither --quick, --only nor --data-dir.")
        if quick and markdown is not None:
            raise ValueError("--quick is a trial run, whose tables cannot be written with --markdown.")
        out = out or pathlib.Path("runs/reproduce_quick" if quick else "runs/reproduce")
        files.check_writable(out / experiment)
        if experiment == "uci":
            if markdown is not None:
                raise ValueError("`uci` writes a report of its own, uci.md; it takes no --markdown.")
            from paper import uci

            return uci.run(data_dir, out / experiment, only or [], quick)
        if markdown is not None:
            reporting.check_markdown(markdown)
        if experiment != "report":
            command = f"python -m paper {experiment}{' --quick' if quick else ''}"
            place = results.Place(out / experiment, command, quick)
            place.obtain(reporting.EXPERIMENTS[experiment].jobs(place, data_dir), only or ())
        shown, lacking = reporting.tables(out), reporting.lacking(out)
        if experiment == "report" and not shown:
            raise ValueError(f"--out {out} has no results to show; wanted the folder of an earlier experiment.")
        report = reporting.write(out) if shown else None
        if markdown is not None and shown:
            reporting.insert(out, markdown)
        console = rich.console.Console()
        for name, found in shown.items():
            if experiment in (name, "report"):
                tables.show(found)
        for name, names in lacking.items():
            console.print(f"{name} is not shown yet, because it lacks {', '.join(names)}.", highlight=False)
        if report is not None:
            console.print(f"Report: {report}", highlight=False)


if __name__ == "__main__":
    app(prog_name="python -m paper")
