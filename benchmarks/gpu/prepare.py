"""`python -m benchmarks gpu prepare`: writes the folder that travels to the GPU machine. With TensorFlow."""

import dataclasses
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

from benchmarks import cases, exporting, flops
from benchmarks.gpu import bundle, fills, mnist_model, models, modules
from benchmarks.machine import machine, versions

TOTAL = {"step": flops.TRAINING, "density": 1, "sample": 1}
MUCH = 2**17  # rows times hidden units, from which fewer steps are enough for a measurement
# Pure Python; those that the GPU machine has come first there.
WHEELS = ("normflows", "nflows", "zuko", "flowjax", "paramax", "lineax", "equinox", "optax", "jaxtyping")
WHEELS += ("wadler_lindig", "tqdm", "absl-py", "UMNN", "torchdiffeq")
LIMIT = 40 * 2**20  # bytes of the bundle


def prepare(folder: pathlib.Path, only: str, quick: bool, wheels: bool, data_dir, advance) -> dict:
    """Writes the bundle.

    Args:
      folder: for the bundle; new or empty.
      only: modules whose name contains this.
      quick: tiny models.
      wheels: download the wheels of the other packages.
      data_dir: where TFDS' data lie.
      advance: called with what is being done.

    Returns:
      The manifest.

    Raises:
      ValueError: if the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; wanted a new folder.")
    for name in (bundle.MODULES, bundle.WHEELS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    manifest = {"quick": quick, "machine": machine(), "versions": versions(), "modules": [], "peers": _peers(quick)}
    keep = {}
    for group, specs in modules.groups(quick).items():
        by_model = {}
        for spec in specs:
            if only in spec.name:
                by_model.setdefault((spec.library, spec.model, spec.policy), []).append(spec)
        entries = {}
        for same in by_model.values():
            advance(same[0].name)
            entries |= {entry["name"]: entry | {"group": group} for entry in _export(folder, same, keep)}
        manifest["modules"] += [entries[spec.name] for spec in specs if spec.name in entries]
    if only in "mnist":
        advance("mnist")
        manifest["mnist"] = _mnist(folder, quick, data_dir, keep)
    np.savez_compressed(folder / bundle.STORED, **keep)
    if wheels:
        advance("wheels")
        manifest["wheels"] = _wheels(folder / bundle.WHEELS)
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest


def _peers(quick):
    """The cases that the other packages are timed on."""
    if quick:
        glow, vectors = [cases.QUICK_CASES["glow"]], [cases.QUICK_CASES["real_nvp"]]
    else:
        glow = [dataclasses.replace(modules.GLOW_64, batch=batch) for batch in (128, 1024)]
        vectors = [dataclasses.replace(modules.REAL_NVP, batch=batch) for batch in (1024, 16384)]
    return {"glow": [cases.to_json(case) for case in glow], "real_nvp": [cases.to_json(case) for case in vectors]}


def _export(folder, specs, keep):
    """The entries of several modules of one model."""
    first = specs[0]
    tf.keras.backend.clear_session()
    built = models.functions(first.library, first.case, first.policy)
    for spec in specs:
        described = models.inputs(spec.case, spec.work, seed=1)
        arrays = [tf.constant(fills.make(*one)) for one in described.values()]
        function = built.works(spec.work, spec.case.batch)
        exported = exporting.export(function, described, *arrays)
        entry = {
            "name": spec.name,
            "library": spec.library,
            "model": spec.model,
            "work": spec.work,
            "policy": spec.policy,
            "batch": spec.case.batch,
            "case": cases.to_json(spec.case),
            "loops": spec.loops,
            "scan_steps": _scan_steps(spec.case),
            "parameters": built.parameters,
            "flops": TOTAL[spec.work] * flops.forward_flops(spec.case) * spec.case.batch,
            "inputs": list(described),
            "aliases": exported.aliases,
            "file": bundle.write_text(folder, spec.name, exported.text),
            "arguments": describe(exported, described, spec.name, keep, built.settle),
        }
        if spec.checked:
            results = exporting.results(exported, function, *arrays)
            entry["digests"] = [fills.digest(result, i) for i, result in enumerate(results)]
        yield entry


def _scan_steps(case):
    """Steps in a timed call, so that it takes some tenths of a second."""
    steps = 200 if case.family == "real_nvp" else 40
    return steps if case.batch * case.hidden < MUCH else steps // 4


def describe(exported, inputs, name, keep, settle):
    """The arguments of a module, as another machine makes them.

    Args:
      exported: the module; its large variables get reproducible values.
      inputs: from the inputs' names to `(fill, shape, dtype)`.
      name: of the module.
      keep: where small values are added.
      settle: called once the large variables are in place: sets what depends on them.
    """
    described = [
        {"name": key, "fill": fill, "shape": list(shape), "dtype": dtype}
        for key, (fill, shape, dtype) in inputs.items()
    ]
    made = [models.reproducible(variable, 100 + i) for i, variable in enumerate(exported.captured)]
    settle()
    names = exported.names[len(inputs) :]
    for i, (key, variable, fill) in enumerate(zip(names, exported.captured, made, strict=True)):
        value = variable.numpy()
        if fill is None:
            fill = fills.stored(f"{name}/{i}")
            keep[fill["key"]] = value
        described.append({"name": key, "fill": fill, "shape": list(value.shape), "dtype": value.dtype.name})
    return described


def _mnist(folder, quick, data_dir, keep):
    """Exports the training step of MNIST's model, and the training rows."""
    from tfp_hybrid import datasets

    settings = mnist_model.QUICK_SETTINGS if quick else mnist_model.SETTINGS
    dataset = datasets.load("mnist", data_dir=data_dir)
    x, y = (column[:256] if quick else column for column in dataset.train)
    np.savez_compressed(folder / bundle.MNIST_IMAGES, x=x.astype("uint8"), y=y.astype("int32"))
    model = mnist_model.build(settings, len(x))
    rows = slice(settings["batch"])
    batch = x[rows].astype("float32"), y[rows].astype("int32")
    adapted = x[:: max(1, len(x) // mnist_model.ADAPTED_ROWS)].astype("float32")
    model.adapt(adapted)
    step = mnist_model.training_step(model, settings, *batch)
    exported = exporting.export(step, "xy", *map(tf.constant, batch))
    inputs = {
        "x": (fills.integers(1, 256), batch[0].shape, "float32"),
        "y": (fills.integers(2, 10), batch[1].shape, "int32"),
    }
    arguments = describe(exported, inputs, "mnist", keep, lambda: model.adapt(adapted))
    position = {id(value.handle): i + 2 for i, value in enumerate(exported.captured) if hasattr(value, "handle")}
    weights = [position.get(id(weight.value.handle), -1) for weight in model.weights]
    trackers = {"nll": model.nll_tracker, "bits_per_dim": model.bits_tracker}
    return {
        "name": "mnist",
        "settings": settings,
        "file": bundle.write_text(folder, "mnist", exported.text),
        "inputs": ["x", "y"],
        "aliases": exported.aliases,
        "arguments": arguments,
        "weights": weights,
        "parameters": int(sum(math.prod(weight.shape) for weight in model.trainable_weights)),
        "learning_rate": position[id(model.optimizer._learning_rate.value.handle)],
        "metrics": {
            name: [position[id(variable.value.handle)] for variable in tracker.variables]
            for name, tracker in trackers.items()
        },
        "rows": len(x),
    }


def _wheels(folder):
    """Wheels for Python 3.12 of the other packages; those that cannot be had are left out."""
    found = {}
    options = ["-q", "--no-deps", "--disable-pip-version-check"]
    for package in WHEELS:
        command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), package]
        answer = subprocess.run(command, capture_output=True, text=True)
        found[package] = answer.returncode == 0
    for wheel in folder.glob("*.whl"):
        if not wheel.name.endswith("none-any.whl"):  # for this machine's Python only
            wheel.unlink()
    return found


def size(folder: pathlib.Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
