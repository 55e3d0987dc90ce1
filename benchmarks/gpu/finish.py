"""`python -m benchmarks gpu finish`: from what `run` wrote to metrics, a table, pictures and `gpu.json`. TensorFlow."""

import datetime
import hashlib
import json
import math
import pathlib

import numpy as np
import rich.table

from benchmarks import pictures
from benchmarks.contestants import OURS
from benchmarks.gpu import mnist_model
from benchmarks.gpu.bundle import Bundle
from benchmarks.gpu.mnist_training import WEIGHTS
from benchmarks.gpu.part import read
from benchmarks.machine import versions
from benchmarks.run import CONSOLE

FILE = "gpu.json"
LOOPS = {"scan": "by lax.scan", "loop": "by Python's loop", "scan against loop": "scan against loop"}
FAMILIES = {"glow": "Glow", "real_nvp": "RealNVP"}
FOREIGN = ("not_mnist", "fashion_mnist")
QUICK_ROWS = 64
KEPT = {  # kinds of lines, and where they go
    "ceiling": "ceilings",
    "exactness": "exactness",
    "timing": "timings",
    "compiled": "compiled",
    "profile": "profiles",
    "peer": "peers",
    "training": "training",
    "diverged": "diverged",
    "fallback": "fallbacks",
    "error": "errors",
    "failed": "errors",
    "skipped": "skipped",
    "ended": "skipped",
    "late": "skipped",
}


def finish(folder, results, out, data_dir=None) -> dict:
    """Evaluates the trained model, and writes `gpu.json` and the pictures.

    Metrics that the file already has for the same weights are kept.

    Args:
      folder: the bundle.
      results: the folder that `run` wrote to.
      out: folder for the files.
      data_dir: where TFDS' data lie.

    Returns:
      What `gpu.json` holds.
    """
    bundle, results, out = Bundle(folder), pathlib.Path(results), pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    lines = read(results)
    content = summary(lines) | {
        "command": "python -m benchmarks gpu prepare | run | finish",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "exported_with": bundle.manifest["versions"],
        "finished_with": versions(),
    }
    trained = [line for line in lines if line["kind"] == "trained"]
    if (results / WEIGHTS).exists():
        entry = bundle.manifest["mnist"]
        digest = hashlib.sha256((results / WEIGHTS).read_bytes()).hexdigest()
        metrics = _kept_metrics(out / FILE, digest)
        content["mnist"] = {
            "settings": entry["settings"],
            "trained": trained[-1] if trained else None,
            "weights_sha256": digest,
            "metrics": metrics or evaluated(entry, results / WEIGHTS, bundle.manifest["quick"], data_dir),
        }
    from tfp_hybrid import strict_json

    (out / FILE).write_text(strict_json.dumps(content) + "\n")
    _print(content)
    _draw(content["timings"], out)
    return content


def summary(lines: list[dict]) -> dict:
    """The lines by their kinds, and the ratios of the others' times to ours.

    Args:
      lines: of the results.

    Returns:
      "machine"; the lists that `KEPT` names; and "ratios", as `ratios` has them.
    """
    content = {name: [] for name in KEPT.values()} | {"machine": None}
    for line in lines:
        if line["kind"] == "machine":
            content["machine"] = line
        elif line["kind"] in KEPT:
            content[KEPT[line["kind"]]].append(line)
    content["ratios"] = ratios(content["timings"])
    return content


def comparisons(timings: list[dict]) -> list[dict]:
    """Timings of the same work by the same loop, those of this package and of at least one other.

    A loop is `jax.lax.scan`, on the card, or Python's, which starts each step anew; those of PyTorch's packages are
    Python's, compiled or not. Where only others have a Python loop, our scan takes its place, and the comparison says
    so. Our Python loop is never compared with a scan.

    Args:
      timings: lines of the results.

    Returns:
      For each model, batch, work and loop, of float32 models: "loops", a key of `LOOPS`, and "rows", the timings.
    """
    alike = {}
    for row in timings:
        if row["policy"] == "float32" and row["part"] != "nhwc":
            loops = alike.setdefault((row["model"], row["batch"], row["work"]), {"scan": [], "loop": []})
            loops["scan" if row["loop"] == "scan" else "loop"].append(row)
    found = []
    for (model, batch, work), loops in alike.items():
        ours = {name: [row for row in rows if row["library"] == OURS] for name, rows in loops.items()}
        for name, rows in loops.items():
            others = [row for row in rows if row["library"] != OURS]
            unequal = name == "loop" and not ours["loop"]
            own = ours["scan" if unequal else name]
            if own and others:
                loop = "scan against loop" if unequal else name
                found.append({"model": model, "batch": batch, "work": work, "loops": loop, "rows": own + others})
    return found


def ratios(timings: list[dict]) -> list[dict]:
    """How many times as many items a second ours takes as each other package, by equal loops (see `comparisons`)."""
    found = []
    for comparison in comparisons(timings):
        rates = {}
        for row in comparison.pop("rows"):
            name = row["library"], row["loop"]
            rates[name] = max(rates.get(name, 0.0), row["items_per_s"])
        ours = max(rate for (library, _), rate in rates.items() if library == OURS)
        for (library, loop), rate in rates.items():
            if library != OURS:
                found.append(comparison | {"library": library, "variant": loop, "ours_over": ours / rate})
    return found


def evaluated(entry: dict, weights: pathlib.Path, quick: bool, data_dir) -> dict:
    """Metrics of the trained model, computed in float32.

    Args:
      entry: of the model in the manifest.
      weights: the file of its weights.
      quick: take few rows.
      data_dir: where TFDS' data lie.

    Returns:
      "test", "validation": as `predictions.test_metrics`; "ood": as `predictions.ood_metrics`, by data set.
    """
    from tfp_hybrid import datasets
    from tfp_hybrid.commands import predictions
    from tfp_hybrid.datasets import outliers

    model = restored(entry, weights)
    dataset = datasets.load("mnist", data_dir=data_dir)
    rows = slice(QUICK_ROWS if quick else None)
    inside = {}
    for part in ("test", "validation"):
        x, y = (column[rows] for column in getattr(dataset, part))
        inside[part] = predictions.predict(model, x, y, part), y
    metrics = {part: predictions.test_metrics(model, *answers) for part, answers in inside.items()}
    metrics["ood"] = {}
    for name in FOREIGN:
        x, y = outliers.load_outliers(name, dataset, data_dir)
        outside = predictions.predict(model, x[rows], None if y is None else y[rows], name)
        metrics["ood"][name] = predictions.ood_metrics(inside["test"][0], outside)
    return metrics


def restored(entry: dict, weights: pathlib.Path):
    """The Keras model with the trained weights, its networks in float32.

    Raises:
      ValueError: if the weights are not those of the model.
    """
    model = mnist_model.build(entry["settings"] | {"policy": "float32"}, entry["rows"])
    with np.load(weights) as values:
        missing = [i for i, place in enumerate(entry["weights"]) if place >= 0 and f"w{i}" not in values]
        if missing or len(entry["weights"]) != len(model.weights):
            raise ValueError(f"{weights} lacks the weights {missing}; wanted those of all {len(model.weights)}.")
        for i, weight in enumerate(model.weights):
            if f"w{i}" in values:
                weight.assign(values[f"w{i}"])
    return model


def _kept_metrics(file, digest):
    """The metrics of an earlier `gpu.json`, if they are those of these weights."""
    mnist = json.loads(file.read_text()).get("mnist") if file.exists() else None
    return mnist["metrics"] if mnist and mnist.get("weights_sha256") == digest else None


def _print(content):
    timings = _table("Timings", "model", "work", "batch", "library", "policy", "loop", "items/s", "ms", "TFLOP/s")
    timings.add_column("compile (s)", justify="right")
    for row in sorted(content["timings"], key=lambda row: (row["model"], row["work"], row["batch"], row["seconds"])):
        flops, compile_s = row.get("flops_per_s"), row.get("compile_s")
        timings.add_row(
            *(str(row[key]) for key in ("model", "work", "batch")),
            pictures.short_name(row["library"]),
            row["policy"],
            _variant(row),
            f"{row['items_per_s']:,.0f}",
            f"{1e3 * row['seconds']:.3f}",
            f"{flops / 1e12:.2f}" if flops else "",
            f"{compile_s:.1f}" if compile_s else "",
        )
    compared = _table("Our rate over another's", "model", "work", "batch", "loops", "library", "variant", "ratio")
    for row in content["ratios"]:
        named = row | {"library": pictures.short_name(row["library"]), "ratio": f"{row['ours_over']:.2f}"}
        compared.add_row(*(str(named[column.header]) for column in compared.columns))
    CONSOLE.print(f"{(content['machine'] or {}).get('card')}", timings, compared)
    for name in ("ceilings", "exactness", "errors", "skipped"):
        CONSOLE.print(name, *content[name], sep="\n  ")
    CONSOLE.print("MNIST", content.get("mnist"))


def _table(title, *columns):
    table = rich.table.Table(title=title)
    for column in columns:
        text = column in ("model", "work", "library", "policy", "loop", "loops", "variant")
        folded = column in ("policy", "loop", "variant")
        table.add_column(column, justify="left" if text else "right", no_wrap=not folded, overflow="fold")
    return table


def _draw(timings, out):
    """A picture for each model and batch that others took part in: a panel for each work and loop."""
    found = comparisons(timings)
    for model, batch in sorted({(comparison["model"], comparison["batch"]) for comparison in found}):
        panels = [comparison for comparison in found if (comparison["model"], comparison["batch"]) == (model, batch)]
        rows = [
            {"library": row["library"], "variant": _variant(row), "skipped": None, "items_per_second": _rates(row)}
            | {"work": f"{pictures.WORK_TITLES[panel['work']]}, {LOOPS[panel['loops']]}"}
            for panel in panels
            for row in panel["rows"]
        ]
        pictures.bars(rows, f"{_title(model)}, batch {batch}", out / f"gpu_{model}_{batch}.png")


def _variant(row):
    """How it was looped, in which layout if that was forced, and whether what it computed is not finite."""
    layout = " NHWC" if row["part"] == "nhwc" else ""
    return f"{row['loop']}{layout}{'' if math.isfinite(row['value']) else ' (not finite)'}"


def _title(model):
    """glow_28x28x1_64 as Glow 28x28x1, 64 hidden."""
    family, size, hidden = model.rsplit("_", 2)
    return f"{FAMILIES[family]} {size}{' inputs' if size.isdigit() else ''}, {hidden} hidden"


def _rates(row):
    batch = row["batch"]
    return {"median": row["items_per_s"], "min": batch / row["seconds_max"], "max": batch / row["seconds_min"]}
