"""Arguments, options and examples of the command line that are shared by several commands or have long texts."""

import ast
import difflib
import pathlib
import re
from typing import Annotated

import typer

import tfp_hybrid


def data_sets() -> list[str]:
    """Returns the names in `DATASETS` of all recipes, which are read but not imported, since that takes seconds."""
    names = []
    for path in (pathlib.Path(__file__).parent / "recipes").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DATASETS":
                names += ast.literal_eval(node.value)
    return sorted(names)


def check_data_set(name: str):
    """Raises ValueError if `train` knows no data set of this name."""
    known = data_sets()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"The data set {name!r} is unknown; wanted one of {', '.join(known)}.{meant}")


def check_trainable(dataset: str):
    """Raises ValueError if `dataset` is neither a data set that `train` knows nor a table that exists."""
    if pathlib.Path(dataset).suffix not in (".csv", ".parquet"):
        check_data_set(dataset)
    elif not pathlib.Path(dataset).is_file():
        raise ValueError(f"The file {dataset} does not exist.")


def check_workers(dataset: str, workers: int):
    """Raises ValueError if several workers are to train on a table, which one process does."""
    if workers > 1 and pathlib.Path(dataset).suffix in (".csv", ".parquet"):
        raise ValueError(f"--workers is {workers}; wanted 1 for the table {dataset}.")


def check_files(model: pathlib.Path, *inputs: pathlib.Path | None):
    """Raises ValueError if the run or model, or a file of inputs that is not None, does not exist."""
    if not model.exists():
        raise ValueError(f"There is no model: {model} does not exist.")
    for file in inputs:
        if file is not None and not file.exists():
            raise ValueError(f"{file} does not exist; wanted a .npz, .csv or .parquet file.")


def is_stream(file: pathlib.Path, out: pathlib.Path | None, explain: bool) -> bool:
    """Returns whether `score` reads a table block by block, rather than as a whole."""
    return file.suffix != ".npz" and out is not None and out.suffix == ".parquet" and not explain


def check_stream(streams: bool, shard: str | None, keep: list[str] | None):
    """Raises ValueError for options of `score` that are for tables that are read block by block."""
    for name, value in {"--shard": shard, "--keep": " ".join(keep or ())}.items():
        if value and not streams:
            raise ValueError(
                f"{name} {value} is given; wanted a .csv or .parquet file, and --out FILE.parquet without --explain."
            )


def parse_shard(shard: str | None) -> tuple[int, int] | None:
    """Returns the index and the number of shards; raises ValueError if `shard` is not "i/n" with 0 <= i < n."""
    if shard is None:
        return None
    parts = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not parts or not int(parts[1]) < int(parts[2]):
        raise ValueError(f"--shard is {shard!r}; wanted i/n with i from 0 to n - 1, such as 0/64 to 63/64.")
    return int(parts[1]), int(parts[2])


def _print_version(wanted):
    if wanted:
        print(f"tfp-hybrid {tfp_hybrid.__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show what TensorFlow prints about the machine.")]
Labels = Annotated[
    int | None, typer.Option(help="How many training rows keep their label, for experiments; all if not given.")
]
Workers = Annotated[int, typer.Option(min=1, help="Number of processes on this machine that train the model together.")]
Dataset = Annotated[
    str,
    typer.Argument(
        help="digits, mnist, fashion_mnist, flights or simulation; or a table, a .csv or .parquet file.",
        autocompletion=data_sets,
    ),
]
Model = Annotated[pathlib.Path, typer.Argument(help="Folder of a run, or file of a saved model or rejector.")]
Before = Annotated[
    pathlib.Path,
    typer.Argument(help="Folder of a run, or file of a saved model or rejector; or a monitor, a .json file."),
]
After = Annotated[
    pathlib.Path,
    typer.Argument(help="Inputs: a .npz file with an array x, a .csv or a .parquet file; or another monitor."),
]
Rows = Annotated[
    pathlib.Path,
    typer.Argument(help="Inputs: a .npz file with an array x, a .csv or a .parquet file, or a folder of such tables."),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Score the I-th of N runs of row groups, I from 0 to N - 1, and add the number to the name of --out: for "
        "array jobs.",
    ),
]
Keep = Annotated[
    list[str] | None, typer.Option(help="A column that is copied to --out, such as a key of the rows. Repeatable.")
]
Target = Annotated[str | None, typer.Option(help="For a table: the name of the column to predict.")]
Task = Annotated[
    str | None,
    typer.Option(
        help="For a table: classification or regression. By default, text, booleans, any two values, and whole numbers "
        "of at most 20 different values with ten rows each on average are classes."
    ),
]
Category = Annotated[
    list[str] | None,
    typer.Option(help="For a table: a column of categories that look like numbers, such as codes. Repeatable."),
]
Group = Annotated[
    list[str] | None,
    typer.Option(help="For a table: a column of ids of groups, such as schools, that have random effects. Repeatable."),
]
Offset = Annotated[
    str | None, typer.Option(help="For a table: a column that is a known part of the mean of a target of numbers.")
]
Explain = Annotated[
    bool,
    typer.Option(
        "--explain", help='Add "because", up to three columns that make a row foreign on which the model abstains.'
    ),
]
Ood = Annotated[
    list[str] | None,
    typer.Option(help="Out-of-distribution set: a data set, or noise, inverted, rotated or shuffled. Repeatable."),
]
DataDir = Annotated[
    pathlib.Path | None,
    typer.Option(help="Folder of the data sets; defaults to $TFDS_DATA_DIR, or else ~/tensorflow_datasets."),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help='Print JSON instead of tables. Infinite numbers and NaN, which JSON lacks, are the strings "Infinity", '
        '"-Infinity" and "NaN".',
    ),
]
GenerativeWeight = Annotated[
    float | None,
    typer.Option(help="lambda, the weight of log p(x) in nats (eq. 5 of the paper); 0 trains p(y|x) alone."),
]
LearningRate = Annotated[
    float | None, typer.Option(help="Peak learning rate of the cosine schedule; for a table, that of Adam.")
]
Other = Annotated[
    list[pathlib.Path] | None,
    typer.Option(help="Run on the same data set with another seed, for the score WAIC. Repeatable."),
]
LikelihoodRatio = Annotated[
    bool,
    typer.Option(
        "--likelihood-ratio",
        help="Include the likelihood ratio, for which a background model is trained for two epochs.",
    ),
]
Reference = Annotated[
    pathlib.Path | None,
    typer.Option(
        help="File of inputs without drift that were not used in training, at best ten times as many; sees far more."
    ),
]
Classifier = Annotated[
    bool,
    typer.Option("--classifier", help="Train a classifier to distinguish the inputs from --reference, too."),
]
AbstainBelow = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=100,
        help="Abstain below this percentile of the held-out rows; defaults to the rejector's threshold, which is "
        "percentile 2 after `train`.",
    ),
]


def _examples(*commands):
    """Returns the epilog of a command's help, with one line for each example."""
    return "\n\n".join(["Examples:", *(f"  tfp-hybrid {command}" for command in commands)])


TRAIN_EXAMPLES = _examples(
    "train digits --out runs/digits",
    "train mnist --epochs 1 --ood not_mnist --ood noise --out runs/mnist",
    "train digits --generative-weight 0 --out runs/discriminative",
    "train customers.csv --target churn --out runs/churn",
    "train pupils.csv --target score --group student --group school --out runs/scores",
)
EVALUATE_EXAMPLES = _examples(
    "evaluate runs/digits digits --ood inverted",
    "evaluate runs/mnist mnist --ood not_mnist --ood rotated --pictures runs/mnist/pictures",
    "evaluate runs/mnist fashion_mnist --json",
    "evaluate runs/churn labelled.csv",
)
SCORE_EXAMPLES = _examples(
    "score runs/digits new_images.npz",
    "score runs/flights today.csv --out scores.csv --abstain-below 5",
    "score runs/churn new.csv --explain",
    "score runs/flights all.parquet --out scores.parquet --keep id --shard 3/64",
)
EXPORT_EXAMPLES = _examples(
    "export runs/digits",
    "export runs/digits --format onnx --out digits.onnx",
)
DRIFT_EXAMPLES = _examples(
    "drift runs/flights today.parquet --reference held_out.parquet",
    "drift runs/flights today.parquet",
    "drift runs/digits new_images.npz --picture drift.png --json",
    "drift monday.json tuesday.json --picture days.png",
)
