"""`python -m benchmarks gpu finish`: from what `run` wrote to metrics, a table, pictures and `gpu.json`. TensorFlow."""

import datetime
import json
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
        content["mnist"] = {
            "settings": entry["settings"],
            "trained": trained[-1] if trained else None,
            "metrics": evaluated(entry, results / WEIGHTS, bundle.manifest["quick"], data_dir),
        }
    (out / "gpu.json").write_text(json.dumps(content, indent=1) + "\n")
    _print(content)
    _draw(content["timings"], out)
    return content


def summary(lines: list[dict]) -> dict:
    """The lines by their kinds, and each work's ratios to ours.

    Args:
      lines: of the results.

    Returns:
      "machine"; the lists that `KEPT` names; and "ratios": for each model, work and batch, from another package and
      its way to how many times as many items a second ours takes.
    """
    content = {name: [] for name in KEPT.values()} | {"machine": None}
    for line in lines:
        if line["kind"] == "machine":
            content["machine"] = line
        elif line["kind"] in KEPT:
            content[KEPT[line["kind"]]].append(line)
    content["ratios"] = ratios(content["timings"])
    return content


def ratios(timings: list[dict]) -> list[dict]:
    """Our fastest loop's rate, of float32 models, over that of each other package's."""
    found = []
    alike = {(row["model"], row["work"], row["batch"]): [] for row in timings}
    for row in timings:
        if row["policy"] == "float32" and row["part"] != "nhwc":
            alike[row["model"], row["work"], row["batch"]].append(row)
    for (model, work, batch), rows in alike.items():
        ours = [row["items_per_s"] for row in rows if row["library"] == OURS]
        others = {f"{row['library']} {row['loop']}": row["items_per_s"] for row in rows if row["library"] != OURS}
        if ours and others:
            shares = {name: max(ours) / rate for name, rate in others.items()}
            found.append({"model": model, "work": work, "batch": batch, "ours_over": shares})
    return found


def evaluated(entry: dict, weights: pathlib.Path, quick: bool, data_dir) -> dict:
    """Metrics of the trained model, computed in float32.

    Args:
      entry: of the model in the manifest.
      weights: the file of its weights.
      quick: take few rows.
      data_dir: where TFDS' data lie.

    Returns:
      "test", "validation": as `evaluation.test_metrics`; "ood": as `evaluation.ood_metrics`, by data set.
    """
    from tfp_hybrid import datasets
    from tfp_hybrid.experiments import evaluation, outliers

    model = restored(entry, weights)
    dataset = datasets.load("mnist", data_dir=data_dir)
    rows = slice(QUICK_ROWS if quick else None)
    inside = {}
    for part in ("test", "validation"):
        x, y = (column[rows] for column in getattr(dataset, part))
        inside[part] = evaluation.predict(model, x, y, part), y
    metrics = {part: evaluation.test_metrics(model, *answers) for part, answers in inside.items()}
    metrics["ood"] = {}
    for name in FOREIGN:
        x, y = outliers.load_outliers(name, dataset, data_dir)
        outside = evaluation.predict(model, x[rows], None if y is None else y[rows], name)
        metrics["ood"][name] = evaluation.ood_metrics(inside["test"][0], outside)
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


def _print(content):
    table = rich.table.Table(title="Timings", caption=str((content["machine"] or {}).get("card")))
    for title in ("model", "work", "batch", "library", "policy", "loop", "items/s", "ms", "TFLOP/s", "compile (s)"):
        table.add_column(title, justify="left" if title in ("model", "library") else "right")
    for row in sorted(content["timings"], key=lambda row: (row["model"], row["work"], row["batch"], row["seconds"])):
        flops, compile_s = row.get("flops_per_s"), row.get("compile_s")
        table.add_row(
            *(str(row[key]) for key in ("model", "work", "batch", "library", "policy", "loop")),
            f"{row['items_per_s']:,.0f}",
            f"{1e3 * row['seconds']:.3f}",
            f"{flops / 1e12:.2f}" if flops else "",
            f"{compile_s:.1f}" if compile_s else "",
        )
    CONSOLE.print(table)
    for name in ("ceilings", "exactness", "ratios", "errors", "skipped"):
        CONSOLE.print(name, *content[name], sep="\n  ")
    CONSOLE.print("MNIST", content.get("mnist"))


def _draw(timings, out):
    """A picture for each model and batch that others took part in."""
    chosen = [row for row in timings if row["policy"] == "float32" and row["part"] != "nhwc"]
    for model, batch in sorted({(row["model"], row["batch"]) for row in chosen if row["library"] != OURS}):
        rows = [
            {"library": row["library"], "variant": row["loop"], "work": row["work"], "skipped": None}
            | {"items_per_second": _rates(row)}
            for row in chosen
            if (row["model"], row["batch"]) == (model, batch)
        ]
        pictures.bars(rows, f"{model}, batch {batch}", out / f"gpu_{model}_{batch}.png")


def _rates(row):
    batch = row["batch"]
    return {"median": row["items_per_s"], "min": batch / row["seconds_max"], "max": batch / row["seconds_min"]}
