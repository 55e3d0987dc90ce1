"""The command line: `python -m benchmarks gpu prepare|run|finish`."""

import pathlib
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="A GPU machine without TensorFlow: prepare here, run there, finish here.")


@app.command()
def prepare(
    folder: Annotated[pathlib.Path, typer.Argument(help="Folder for the bundle; new or empty.")],
    only: Annotated[str, typer.Option(help="Modules whose name contains this.")] = "",
    data_dir: Annotated[str | None, typer.Option(help="Folder of TFDS' data.")] = None,
    wheels: Annotated[bool, typer.Option(help="Download the wheels of the other packages.")] = True,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny models: does it run?")] = False,
):
    """Writes modules, initial weights, MNIST and wheels: all that a machine with jax and torch needs."""
    from benchmarks.gpu import prepare
    from benchmarks.run import CONSOLE

    try:
        manifest = prepare.prepare(folder, only, quick, wheels, data_dir, CONSOLE.print)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    size = prepare.size(folder)
    CONSOLE.print(f"{len(manifest['modules'])} modules, {size / 2**20:.1f} MiB in {folder}")
    if size > prepare.LIMIT:
        CONSOLE.print(f"More than {prepare.LIMIT / 2**20:.0f} MiB.")


@app.command()
def run(
    folder: Annotated[pathlib.Path, typer.Argument(help="The bundle.")],
    out: Annotated[pathlib.Path, typer.Argument(help="Folder for the results.")],
    seconds: Annotated[float, typer.Option(help="In which all is done.")] = 530.0,
    only: Annotated[list[str] | None, typer.Option(help="Name of a part to run. Repeatable; all without it.")] = None,
):
    """Measures and trains; needs jax and numpy, and torch for the other packages. No TensorFlow."""
    from benchmarks.gpu.run import run

    run(folder, out, seconds, only or ())


@app.command()
def finish(
    folder: Annotated[pathlib.Path, typer.Argument(help="The bundle.")],
    results: Annotated[pathlib.Path, typer.Argument(help="Folder with what `run` wrote.")],
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the JSON file and the picture.")] = pathlib.Path(
        "benchmarks/results"
    ),
    data_dir: Annotated[str | None, typer.Option(help="Folder of TFDS' data.")] = None,
):
    """The trained weights back into the Keras model, its metrics; a table, a picture, `gpu.json`."""
    from benchmarks.gpu.finish import finish

    finish(folder, results, out, data_dir)
