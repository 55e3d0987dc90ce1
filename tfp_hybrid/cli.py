"""The command line: `tfp-hybrid train`, `evaluate`, `score`, `drift`, `export`.

Each command imports what it needs, so that `--help` does not wait for TensorFlow.
"""

import pathlib
import sys
from typing import Annotated

import typer

from tfp_hybrid import options
from tfp_hybrid.console import errors, start_tensorflow

app = typer.Typer(
    name="tfp-hybrid",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def main(context: typer.Context, version: options.Version = False, verbose: options.Verbose = False):
    """Deep invertible generalized linear models: p(y|x) and p(x) from one normalizing flow."""
    context.obj = verbose


@app.command(epilog=options.TRAIN_EXAMPLES)
def train(
    context: typer.Context,
    dataset: options.Dataset,
    out: Annotated[pathlib.Path, typer.Option(help="Folder for the results; must be new or empty.")],
    generative_weight: options.GenerativeWeight = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs; for a table, the most.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Batch size.")] = None,
    learning_rate: options.LearningRate = None,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    ood: options.Ood = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in --out.")] = False,
    data_dir: options.DataDir = None,
    target: options.Target = None,
    task: options.Task = None,
    category: options.Category = None,
    group: options.Group = None,
    offset: options.Offset = None,
    workers: options.Workers = 1,
    labels: options.Labels = None,
):
    """Trains a model and writes model.keras, rejector.keras, metrics.json, history.csv and report.html.

    Options that are not given default to the data set's recipe.

    For a table, a HybridClassifier or HybridRegressor is trained, whose defaults apply; a fifth of the rows is held out
    for testing, and there is no history.csv.
    """
    with errors(lambda: _how_to_resume(out)):
        options.check_trainable(dataset)
        options.check_workers(dataset, workers)
        start_tensorflow(context.obj)
        from tfp_hybrid import commands, files
        from tfp_hybrid.commands import distribution, fitting, tables

        if workers > 1 and not distribution.is_worker():
            if out.exists():
                with files.locked(out):
                    fitting.check_folder(out, resume)
            return distribution.run_workers(sys.argv[1:], workers)
        chosen = {"generative_weight": generative_weight, "epochs": epochs, "batch_size": batch_size}
        chosen |= {"learning_rate": learning_rate, "seed": seed, "ood": ood or None, "resume": resume}
        chosen |= {"target": target, "task": task, "category": category or (), "labels": labels}
        chosen |= {"group": group or (), "offset": offset}
        metrics = commands.train(dataset, out, data_dir=data_dir, **chosen)
        if not metrics:  # the chief's worker
            return
        tables.show(tables.metrics_tables(metrics))
        print(f"{metrics['seconds']:.0f} s. Wrote {', '.join(sorted(path.name for path in out.iterdir()))} to {out}.")


@app.command(epilog=options.EVALUATE_EXAMPLES)
def evaluate(
    context: typer.Context,
    model: options.Model,
    dataset: options.Dataset,
    ood: options.Ood = None,
    other: options.Other = None,
    likelihood_ratio: options.LikelihoodRatio = False,
    pictures: Annotated[pathlib.Path | None, typer.Option(help="Folder for pictures, such as ROC curves.")] = None,
    as_json: options.Json = False,
    data_dir: options.DataDir = None,
):
    """Evaluates a trained model on test rows, and how well each score detects out-of-distribution inputs.

    A run on a table is evaluated on a table with the same columns and the target.
    """
    with errors():
        options.check_files(model)
        options.check_trainable(dataset)
        start_tensorflow(context.obj)
        from tfp_hybrid import commands, strict_json
        from tfp_hybrid.commands import tables

        chosen = {"likelihood_ratio": likelihood_ratio, "pictures": pictures, "data_dir": data_dir}
        metrics = commands.evaluate(model, dataset, ood=ood or (), other=other or (), **chosen)
        print(strict_json.dumps(metrics)) if as_json else tables.show(tables.metrics_tables(metrics))
        if pictures is not None:
            _wrote(f"pictures to {pictures}")


@app.command(epilog=options.SCORE_EXAMPLES)
def score(
    context: typer.Context,
    model: options.Model,
    file: options.Rows,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="A .csv or .parquet file for the table; by default, prints CSV.")
    ] = None,
    abstain_below: options.AbstainBelow = None,
    explain: options.Explain = False,
    shard: options.Shard = None,
    keep: options.Keep = None,
):
    """Predicts each row of a file, with its uncertainty, log p(x), percentile and whether to abstain.

    The percentile is among the held-out rows; 0 is the least likely.

    From .csv and .parquet files to --out FILE.parquet, any number of rows is scored in bounded memory. A run that was
    killed resumes if it is started again.
    """
    with errors(lambda: "Run the same command again to continue." if options.is_stream(file, out, explain) else ""):
        options.check_files(model, file)
        streams = options.is_stream(file, out, explain)
        part = options.parse_shard(shard)
        options.check_stream(streams, shard, keep)
        start_tensorflow(context.obj)
        from tfp_hybrid import commands

        if streams:
            chosen = {"abstain_below": abstain_below, "keep": keep or (), "shard": part}
            out, rows = commands.score_file(model, file, out, **chosen)
            _wrote(f"{rows:,} rows to {out}")
            return
        table = commands.score(model, file, out=out, abstain_below=abstain_below, explain=explain)
        if out is None:
            print(table.to_csv(index=False, float_format="%.6g"), end="")
        else:
            _wrote(f"{len(table):,} rows to {out}")


@app.command(epilog=options.DRIFT_EXAMPLES)
def drift(
    context: typer.Context,
    model: options.Before,
    file: options.After,
    reference: options.Reference = None,
    classifier: options.Classifier = False,
    significance: Annotated[float, typer.Option(min=0, max=1, help="False-alarm rate.")] = 0.05,
    picture: Annotated[pathlib.Path | None, typer.Option(help="A .png, .svg or .pdf file for a picture.")] = None,
    as_json: options.Json = False,
):
    """Tests whether the inputs in a file are distributed like held-out training rows.

    With --reference, a file of such rows, the latents, scores, predictions and columns of both are compared.

    Without it, only the scores of the rejector are: by KS their distributions, by typicality their means.
    Another population with the same scores is not detected: "no" means as likely as the held-out rows, not the same.

    Two monitors of production, files of uncertainty.Monitor, are compared with each other: scores and abstentions.
    """
    with errors():
        options.check_files(model, file, reference)
        start_tensorflow(context.obj)
        from tfp_hybrid import commands, strict_json
        from tfp_hybrid.commands import tables

        chosen = {"reference": reference, "classifier": classifier, "significance": significance, "picture": picture}
        answer = commands.drift(model, file, **chosen)
        print(strict_json.dumps(answer)) if as_json else tables.show(tables.drift_tables(answer))
        if picture is not None:
            _wrote(str(picture))


@app.command(epilog=options.EXPORT_EXAMPLES)
def export(
    context: typer.Context,
    model: options.Model,
    format: Annotated[str, typer.Option(help="saved_model, for TensorFlow Serving; onnx; or litert.")] = "saved_model",
    out: Annotated[
        pathlib.Path | None,
        typer.Option(help="Folder of the SavedModel, or file; by default served/1, model.onnx or model.tflite."),
    ] = None,
):
    """Writes a model for other programs, which need neither this package nor Keras.

    It answers with prediction, uncertainty and log p(x), and with a rejector with score, percentile and abstain.
    """
    with errors():
        options.check_files(model)
        start_tensorflow(context.obj)
        from tfp_hybrid import commands

        _wrote(commands.export(model, format=format, out=out)["path"])


def _wrote(what):
    typer.echo(f"Wrote {what}.", err=True)  # the standard output is the table or the JSON alone


def _how_to_resume(out):
    if (out / "config.json").exists():
        return "What was trained is saved. Run the same command with --resume to continue."
    return "Nothing is saved yet. Run the same command again to start."


if __name__ == "__main__":
    app()
